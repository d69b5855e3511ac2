"""A short fuzz run of every registered reader, and every public reader of humanbody.data is registered (the long run: `make fuzz`, tests/fuzz_record.json)."""
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import humanbody.data
import pytest

HERE = Path(__file__).parent
ELSEWHERE = {  # public names that begin like a reader and are not called by a registered one
    "humanbody.data.h36m.read_2d": "takes a split that read_h36m has read, not a file",
    "humanbody.data.h36m.read_3d": "takes a split that read_h36m has read, not a file",
    "humanbody.data.masks.load_sam": "opens a folder of weights through transformers; see tests/test_masks.py",
}


def test_every_reader_takes_a_few_damaged_files():
    if not hasattr(os, "fork"): pytest.skip("the fuzz run needs fork; this system has none")
    inputs = os.environ.get("HUMANBODY_FUZZ_SMOKE", "30")
    r = subprocess.run([sys.executable, str(HERE / "fuzz_readers.py"), "--bulk", "--inputs", inputs, "--seed", "7"], capture_output=True, text=True, timeout=500)
    bad = [line for line in r.stdout.splitlines() if "FAILED" in line]
    assert r.returncode == 0 and not bad, "\n".join(bad) + r.stderr[-2000:]
    assert f" {int(inputs)} inputs" in r.stdout, r.stdout[-500:]


def public_readers():
    """Return the public functions read_* and load_* of all modules of humanbody.data, by module and name."""
    found = set()
    for m in pkgutil.walk_packages(humanbody.data.__path__, "humanbody.data."):
        for name, f in vars(importlib.import_module(m.name)).items():
            if inspect.isfunction(f) and f.__module__ == m.name and name.startswith(("read_", "load_")): found.add(f"{m.name}.{name}")
    return found


def called_by_the_registry():
    """Read every registered valid file once and return the functions of the package that were called."""
    sys.path.insert(0, str(HERE))
    from fuzz_tools import readers
    seen, failed = set(), []

    def watch(frame, event, arg):
        if event == "call" and "/humanbody/" in frame.f_code.co_filename.replace(os.sep, "/"): seen.add(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}")

    for reader in readers().values():
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = reader.make(Path(folder) / "valid")
            sys.setprofile(watch)
            try: reader.read(path)
            except (ValueError, FileNotFoundError) as e: failed.append(f"{reader.name}: {e}")
            finally: sys.setprofile(None)
    assert not failed, failed
    return seen


def test_every_public_reader_is_registered():
    names, called = public_readers(), called_by_the_registry()
    assert len(names) > 50
    missing = sorted(names - called - ELSEWHERE.keys())
    assert not missing, f"not read by any entry of tests/fuzz_registry_*.py: {missing}"
    assert ELSEWHERE.keys() <= names - called, f"no longer an exception: {sorted(ELSEWHERE.keys() - (names - called))}"


def test_the_record_of_the_long_run():
    d = json.loads((HERE / "fuzz_record.json").read_text(encoding="utf-8"))
    rows = d["per_reader"].values()
    assert d["inputs"] == sum(r["inputs"] + r["hypothesis"] + r.get("atheris", 0) for r in rows) >= 1_000_000
    assert d["failures"] == 0 and all(not r["failures"] for r in rows)
    assert isinstance(d["seed"], int) and d["versions"]["python"]
    assert all(r["inputs"] + r["hypothesis"] >= 500 and r["refused"] > 0 for r in rows), [k for k, r in d["per_reader"].items() if r["inputs"] < 500 or not r["refused"]]
