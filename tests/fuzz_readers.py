"""`make fuzz`: damaged copies of valid files; a reader gives a value, or ValueError or FileNotFoundError in one message, and never anything else.

python tests/fuzz_readers.py                                    2000 inputs for each reader, 200 of them drawn and shrunk by hypothesis
HUMANBODY_FUZZ=500 HUMANBODY_FUZZ_SEED=3 make fuzz              another number of inputs, another seed
python tests/fuzz_readers.py --total 1000000 --record           a million inputs shared out by speed; writes tests/fuzz_record.json
python tests/fuzz_readers.py --only read_bvh read_trc           these readers; with --record the others stay in the record
python tests/fuzz_readers.py --repeat read_bvh 17               one input again, with its traceback
A long run may be stopped: --record goes on behind the readers that are done (figures/fuzz/state_<seed>.json).
"""
import argparse
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ.setdefault(key, "1")
sys.path.insert(0, str(Path(__file__).parent))
from fuzz_tools import FAILED, ROOT, Result, Target, in_child, readers, run_hypothesis, try_reader  # noqa: E402

RECORD = ROOT / "tests/fuzz_record.json"
LEAST, SLOW_LEAST, SLOW_MS, DRAWN = 2000, 500, 5.0, 200


def warm_up():
    """Import what the readers import when they are called, so that the children need not."""
    for name in ("h5py", "av", "cdflib", "pycocotools.mask", "scipy.io", "scipy.sparse", "PIL.Image", "hypothesis", "torch"):
        try: importlib.import_module(name)
        except ImportError: print(f"fuzz: {name} is not installed; its readers refuse every file")


def say(name, result, seed):
    """Print one line, and one for every failure."""
    ms = 1000 * result.seconds / max(result.inputs, 1)
    print(f"fuzz: {name}: {result.inputs} inputs, {result.refused} refused, {result.accepted} accepted, {result.seconds:.1f} s ({ms:.2f} ms), slowest {result.slowest_ms:.0f} ms, "
          f"{result.peak_mb:.1f} MiB, file named in {100 * result.named // max(result.refused, 1)} %, seed {seed}", flush=True)
    for f in result.failures: print(f"fuzz: FAILED {name}: {f['kind']}; input {f['number']} in {f['file']}", flush=True)


def drawn(reader, seed, count):
    """Run hypothesis in a child."""
    result, number, wrong = in_child(run_hypothesis, reader, seed, count)
    return result or Result(failures=[dict(kind=wrong, number=number, file="")])


def shares(found, seed, total):
    """Share `total` inputs out by the time one input takes: the fast readers get more, none fewer than LEAST (SLOW_LEAST where one takes over SLOW_MS)."""
    cost = {name: max(1e-4, (r := try_reader(reader, seed, 0, 60)).seconds / r.inputs) for name, reader in found.items()}
    least = {name: LEAST if c < SLOW_MS / 1000 else SLOW_LEAST for name, c in cost.items()}
    rest = max(0, total - sum(least.values()))
    weight = {name: 1 / c if c < SLOW_MS / 1000 else 0 for name, c in cost.items()}
    whole = sum(weight.values()) or 1
    return {name: least[name] + -(-int(rest * weight[name] / whole) // 100) * 100 + 100 for name in found}


def record(rows, seed, total, some=False):
    """Write the record that is kept with the source; with `some` readers, those of the same seed that were not run stay."""
    tools = {k: version(k) for k in ("numpy", "hypothesis", "h5py", "av", "pillow", "atheris") if importlib.util.find_spec({"pillow": "PIL"}.get(k, k))}
    old = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for name, r in rows.items():  # what fuzz_atheris.py counted for this seed stays
        if old.get("seed") == seed and "atheris" in old["per_reader"].get(name, {}): r["atheris"] = old["per_reader"][name]["atheris"]
    if some and old:
        if old["seed"] != seed: raise SystemExit(f"fuzz: the record is of seed {old['seed']}, found {seed}; run these readers with --seed {old['seed']}")
        rows, total = old["per_reader"] | rows, old.get("total", total)
    head = dict(about=f"Written by `python tests/fuzz_readers.py --seed {seed} --total {total} --record`, readers that came later by `... --inputs N --only NAME ... --record`, the atheris counts by "
                f"`python tests/fuzz_atheris.py --each N --seed {seed} --record`; input n of a reader follows from seed, name and n, and "
                "`python tests/fuzz_readers.py --seed SEED --repeat NAME n` makes it again.", date=datetime.date.today().isoformat(), seed=seed, total=total,
                inputs=sum(r["inputs"] + r["hypothesis"] + r.get("atheris", 0) for r in rows.values()), readers=len(rows), refused=sum(r["refused"] for r in rows.values()),
                failures=sum(len(r["failures"]) for r in rows.values()), seconds=round(sum(r["seconds"] for r in rows.values())),
                versions=dict(python=platform.python_version(), **tools))
    RECORD.write_text(json.dumps(dict(head, per_reader=rows), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"fuzz: wrote {RECORD.relative_to(ROOT)}")


def row(result, drew, count):
    """Return one line of the record."""
    return dict(inputs=result.inputs, hypothesis=drew.inputs, refused=result.refused + drew.refused, accepted=result.accepted + drew.accepted,
                seconds=round(result.seconds + drew.seconds, 1), slowest_ms=round(max(result.slowest_ms, drew.slowest_ms)), peak_mb=round(result.peak_mb, 1),
                named=result.named + drew.named, failures=[*result.failures, *drew.failures])


def run_all(found, seed, plan, keep=None, few=DRAWN):
    """Try every reader; with `keep` go on from, and write, a file of what is done."""
    rows = json.loads(keep.read_text()) if keep and keep.exists() else {}
    for name, reader in found.items():
        count = plan[name]
        if name in rows and rows[name]["inputs"] >= count - DRAWN and not rows[name]["failures"]: continue
        few = min(few, count)
        drew, bulk = drawn(reader, seed, few) if few else Result(), try_reader(reader, seed, 0, max(0, count - few))
        say(name, Result().add(bulk).add(drew), seed)
        rows[name] = row(bulk, drew, count)
        if keep:
            keep.parent.mkdir(parents=True, exist_ok=True)
            keep.write_text(json.dumps(rows, indent=1))
    return {name: rows[name] for name in found}


def coverage_guided(found, seed, count):
    """Run atheris where it is installed."""
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: atheris is not installed (pip install atheris); the coverage-guided part did not run")
        return 0
    return subprocess.run([sys.executable, str(ROOT / "tests/fuzz_atheris.py"), "--each", str(count), "--seed", str(seed), *found]).returncode


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--inputs", type=int, default=int(os.environ.get("HUMANBODY_FUZZ") or 2000))
    p.add_argument("--seed", type=int, default=int(os.environ.get("HUMANBODY_FUZZ_SEED") or 0))
    p.add_argument("--total", type=int, default=int(os.environ.get("HUMANBODY_FUZZ_TOTAL") or 0))
    p.add_argument("--only", nargs="+")
    p.add_argument("--bulk", action="store_true", help="without hypothesis")
    p.add_argument("--record", action="store_true")
    p.add_argument("--atheris", type=int, default=0, help="inputs of the coverage-guided part for each reader")
    p.add_argument("--repeat", nargs=2)
    a = p.parse_args(argv)
    start, found = time.time(), readers()
    warm_up()
    if a.repeat:
        with tempfile.TemporaryDirectory() as folder:
            target = Target(found[a.repeat[0]], folder, a.seed)
            return target.check(target.damaged(int(a.repeat[1])), Result())
    if a.only: found = {k: v for k, v in found.items() if k in a.only}
    assert found, f"no such reader; there are: {', '.join(readers())}"
    plan_file = FAILED / f"plan_{a.seed}_{a.total}.json"  # the shares are measured once, so that a stopped run goes on with the same numbers
    if a.total and plan_file.exists(): plan = json.loads(plan_file.read_text())
    else: plan = shares(found, a.seed, a.total) if a.total else dict.fromkeys(found, a.inputs)
    if a.total:
        plan_file.parent.mkdir(parents=True, exist_ok=True)
        plan_file.write_text(json.dumps(plan, indent=1))
        print(f"fuzz: {sum(plan.values())} inputs shared out to {len(plan)} readers", flush=True)
    rows = run_all(found, a.seed, {k: plan.get(k, LEAST) for k in found}, FAILED / f"state_{a.seed}_{a.total or a.inputs}.json" if a.record else None, 0 if a.bulk else DRAWN)
    bad = sum(len(r["failures"]) for r in rows.values())
    if a.atheris: bad += coverage_guided(found, a.seed, a.atheris) != 0
    if a.record: record(rows, a.seed, a.total, bool(a.only))
    print(f"fuzz: {sum(r['inputs'] + r['hypothesis'] for r in rows.values())} inputs to {len(rows)} readers, seed {a.seed}, {bad} failures, {time.time() - start:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__": sys.exit(main())
