"""The house rules that a machine can check: `make check`. Works on a temporary copy; changes and deletes nothing in the tree."""
from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOINT_COUNTS = {17, 21, 24, 37, 48, 49, 66}


def notebooks(root: Path = ROOT) -> list[Path]:
    "Return all notebooks under nbs/, hidden folders left out."
    return sorted(p for p in (root / "nbs").rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in p.relative_to(root).parts))


def library_notebooks(root: Path = ROOT) -> list[Path]:
    "Return the notebooks that export a module."
    return [p for p in notebooks(root) if p.parent.name == "nbs"]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def module_of(nb: dict) -> str | None:
    "Return the module a notebook exports to."
    for cell in nb["cells"]:
        m = re.match(r"#\|\s*default_exp\s+(\S+)", source(cell))
        if m:
            return m[1]
    return None


def check_export() -> list[str]:
    "Export and clean into a temporary copy and compare it with the tree."
    problems = []
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "humanbody-copy"
        copy.mkdir()
        shutil.copytree(ROOT / "nbs", copy / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "_out"))
        for name in ("settings.ini", "setup.py", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        bin_ = Path(sys.executable).parent
        for tool in ("nbdev_export", "nbdev_clean"):
            r = subprocess.run([str(bin_ / tool)], cwd=copy, capture_output=True, text=True, env=env)
            if r.returncode:
                return [f"{tool} failed in the temporary copy: {(r.stderr or r.stdout).strip().splitlines()[-1:]}"]
        made = {p.relative_to(copy).as_posix(): p for p in (copy / "humanbody").rglob("*.py")}
        kept = {p.relative_to(ROOT).as_posix(): p for p in (ROOT / "humanbody").rglob("*.py") if "assets" not in p.parts}
        for name in sorted(set(made) | set(kept)):
            if name not in kept:
                problems.append(f"{name}: exported by a notebook but not in the tree; run make export")
            elif name not in made:
                problems.append(f"{name}: in the tree but no notebook exports it")
            elif made[name].read_text() != kept[name].read_text():
                problems.append(f"{name}: differs from its notebook; edit the notebook, then make export")
        for p in notebooks():
            if (copy / p.relative_to(ROOT)).read_text(encoding="utf-8") != p.read_text(encoding="utf-8"):
                problems.append(f"{p.relative_to(ROOT)}: not clean; run make export")
    return problems


def check_notebooks() -> list[str]:
    "Kernel, cell ids, widget state, parameters cells, cell length, machine paths."
    problems = []
    for p in notebooks():
        name, nb = p.relative_to(ROOT), read(p)
        ids = [c.get("id") for c in nb["cells"]]
        if nb["metadata"].get("kernelspec", {}).get("name") != "python3":
            problems.append(f"{name}: kernelspec is not python3")
        if None in ids or len(set(ids)) != len(ids):
            problems.append(f"{name}: every cell needs its own id")
        if "widgets" in nb["metadata"]:
            problems.append(f"{name}: widget state is stored")
        tagged = sum("parameters" in c["metadata"].get("tags", []) for c in nb["cells"])
        if p.parent.name == "runs" and tagged != 1:
            problems.append(f"{name}: {tagged} cells are tagged 'parameters', expected exactly one")
        for i, c in enumerate(nb["cells"]):
            lines = sum(not line.startswith("#|") for line in source(c).splitlines())
            if c["cell_type"] == "code" and lines > 40:
                problems.append(f"{name}: cell {i} has {lines} lines, at most 40 are allowed")
            if re.search(r"/(work|tmp|farm|home)/", source(c)):
                problems.append(f"{name}: cell {i} names a path of some machine")
    return problems


def exported(nb: dict) -> list[tuple[int, str]]:
    "Return (cell number, code) of the exported cells."
    return [(i, source(c)) for i, c in enumerate(nb["cells"])
            if c["cell_type"] == "code" and re.match(r"#\|\s*exports?i?\b", source(c))]


def check_imports() -> list[str]:
    "A module imports only from modules with a smaller notebook number."
    order = {module_of(read(p)): p.name.split("_")[0] for p in library_notebooks()}
    key = lambda number: (int(re.match(r"\d+", number)[0]), number)
    problems = []
    for p in library_notebooks():
        for i, code in exported(read(p)):
            for node in ast.walk(ast.parse(re.sub(r"^#\|.*$", "", code, flags=re.M))):
                if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("humanbody")):
                    continue
                for target in {node.module, *(f"{node.module}.{a.name}" for a in node.names)}:
                    other = order.get(target.removeprefix("humanbody."))
                    if other and key(other) >= key(p.name.split("_")[0]):
                        problems.append(f"{p.name}: cell {i} imports {target} from notebook {other} (must be a smaller number)")
    return problems


def check_joint_literals() -> list[str]:
    "No joint count or index stands as a number outside the skeleton module (a line may say `# joint-literal: why`)."
    problems = []
    for p in library_notebooks():
        if module_of(read(p)) == "skeleton":
            continue
        for i, code in exported(read(p)):
            lines = code.splitlines()
            for node in ast.walk(ast.parse(re.sub(r"^#\|.*$", "", code, flags=re.M))):
                if isinstance(node, ast.Constant) and type(node.value) is int and node.value in JOINT_COUNTS:
                    if "joint-literal:" not in lines[node.lineno - 1]:
                        problems.append(f"{p.name}: cell {i} line {node.lineno} has the literal {node.value}: {lines[node.lineno - 1].strip()[:80]}")
    return problems


CHECKS = (check_export, check_notebooks, check_imports, check_joint_literals)


def main() -> int:
    bad = 0
    for check in CHECKS:
        problems = check()
        print(f"check: {check.__name__.removeprefix('check_'):15s} {'ok' if not problems else ''}")
        for line in problems:
            print("   ", line)
        bad += len(problems)
    print(f"check: {len(library_notebooks())} library notebooks, {len(notebooks()) - len(library_notebooks())} run notebooks, {bad} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
