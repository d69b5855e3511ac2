"""All 66 malformed inputs of the format notes have a test of their own, and the corpus of attacks is large; counted from the sources."""
import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
CASES, ATTACKS = 66, 40


def functions(path):
    """Return the functions of a test file."""
    return [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)]


def works(function, others):
    """Say whether a test asserts something: itself, or through a helper of the same file."""
    if any(isinstance(n, ast.Assert) for n in ast.walk(function)): return True
    calls = [n.func for n in ast.walk(function) if isinstance(n, ast.Call)]
    names = {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}
    return any(n == "raises" or n.startswith("assert_") for n in names) or any(works(others[n], {k: f for k, f in others.items() if k != n}) for n in names & others.keys())


def test_every_malformed_case_has_a_test():
    found, idle = {}, []
    for path in sorted(HERE.glob("test_malformed_*.py")):
        every = {f.name: f for f in functions(path)}
        for f in every.values():
            numbers = re.match(r"test_case_(\d\d)_\w", f.name)
            if not numbers: continue
            found.setdefault(int(numbers[1]), []).append(f"{path.name}::{f.name}")
            if not works(f, {k: g for k, g in every.items() if g is not f}): idle.append(f.name)
    assert sorted(found) == list(range(1, CASES + 1)), f"missing {sorted(set(range(1, CASES + 1)) - set(found))}, unknown {sorted(set(found) - set(range(1, CASES + 1)))}"
    assert not idle, f"tests that assert nothing: {idle}"


def test_no_case_is_shadowed_or_skipped():
    for path in sorted(HERE.glob("test_malformed_*.py")):
        names = [f.name for f in functions(path) if f.name.startswith("test_")]
        assert len(names) == len(set(names)), f"{path.name}: {sorted(n for n in names if names.count(n) > 1)} are defined twice"
        skipped = [f.name for f in functions(path) if any("skip" in ast.unparse(d) for d in f.decorator_list)]
        assert not skipped, f"{path.name}: {skipped} are skipped"


def test_the_attack_corpus_is_large(tmp_path):
    from test_attacks import PROTOCOLS, gadgets, npy_files, raw_pickles
    flag = tmp_path / "flag"
    assert len(gadgets(flag)) * len(PROTOCOLS) + len(raw_pickles(flag)) + len(npy_files(flag)) >= ATTACKS
