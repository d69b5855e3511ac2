"""`make test`: house rules, library notebooks, run notebooks (smoke), pytest. Prints the time of each part and a closing count."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LIMIT = 1500  # seconds for one part


def part(name: str, command: list[str], env: dict | None = None) -> tuple[str, bool, float]:
    "Run one part of the tests with its output on the screen."
    print(f"\n== {name}: {' '.join(str(c) for c in command)}", flush=True)
    start = time.time()
    p = subprocess.Popen([str(c) for c in command], cwd=ROOT, env={**os.environ, **(env or {})}, start_new_session=True)
    try: good = p.wait(LIMIT) == 0
    except subprocess.TimeoutExpired:
        print(f"\n{name}: still running after {LIMIT} s; stopped", flush=True)
        good = False
    except BaseException:
        os.killpg(p.pid, signal.SIGTERM)
        raise
    if p.poll() is None: os.killpg(p.pid, signal.SIGKILL)
    return name, good, time.time() - start


def main() -> int:
    workers = str(min(4, os.cpu_count() or 1))
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    if not os.environ.get("HUMANBODY_SAMPLES"):
        os.environ.pop("HUMANBODY_SAMPLES", None)  # an empty name is no folder
        print("tests: HUMANBODY_SAMPLES is not set; tests on genuine sample files will say that they did not run")
    if not shutil.which("chromium"):
        print("tests: no chromium on this machine; the browser tests will not run")
    shutil.rmtree(ROOT / "tests/_out/smoke", ignore_errors=True)  # results of an earlier test run; training refuses a used folder
    rows = [
        part("house rules", [sys.executable, "tests/check_house.py"]),
        part("library notebooks", [BIN / "nbdev_test", "--n_workers", workers, "--do_print"], one),
        part("run notebooks", [sys.executable, "-m", "humanbody.runner", "smoke", "--out", "tests/_out/smoke", "--workers", workers], one),
        part("pytest", [sys.executable, "-m", "pytest", "-q", "-ra", "--durations=12", "--timeout=600", "-n", workers, "--dist", "loadfile", "tests"], one),
    ]
    print("\n== summary")
    for name, good, seconds in rows:
        print(f"   {'passed' if good else 'FAILED':7s} {name:18s} {seconds:6.0f} s")
    good = sum(g for _, g, _ in rows)
    print(f"{good} passed, {len(rows) - good} failed")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
