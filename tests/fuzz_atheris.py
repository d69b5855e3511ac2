"""Coverage-guided fuzzing of the registered readers with atheris, where it is installed (pip install atheris; not a dependency of this workbook).

python tests/fuzz_atheris.py READER COUNT             one reader
python tests/fuzz_atheris.py --each 200 [READER ...]  that many inputs for each reader; the counts go into tests/fuzz_record.json if --record is given
The inputs grow from the valid file by the damage of fuzz_damage.py and by libFuzzer's own changes; a failing one is kept in figures/fuzz/<reader>/.
"""
import argparse
import json
import os
import random
import sys
from pathlib import Path

for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ.setdefault(key, "1")
sys.path.insert(0, str(Path(__file__).parent))

try: import atheris
except ImportError: sys.exit("fuzz: atheris is not installed (pip install atheris); the coverage-guided part did not run")

with atheris.instrument_imports(include=["humanbody"]): import humanbody.data  # noqa: E402, F401

with atheris.instrument_imports(include=["humanbody"]):
    import fuzz_damage as damage
    import fuzz_tools as tools
    READERS = tools.readers()


def run_atheris(reader, seed, count, folder, beat):
    """Run libFuzzer in this (child) process; it ends the process itself, so that the count stands in the shared number."""
    target, result = tools.Target(reader, folder, seed), tools.Result()
    tools.bounded()
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    (corpus / "valid").write_bytes(target.good)

    def change(data, size, number):
        rng = random.Random(number)
        if rng.random() < 0.3: return atheris.Mutate(data, size)
        if rng.random() < 0.5: return target.place(rng.randrange(len(target.parts)), damage.random_steps(rng))[:size]
        return damage.apply(data, [s for s in damage.random_steps(rng) if s[0] != "value"])[:size]

    def one(data):
        beat(result.inputs)
        try: target.check(data, result)
        except BaseException as e:
            tools.save_failure(reader.name, f"atheris{seed}", result.inputs, data, tools.where(e), repr(e))
            raise

    arguments = [sys.argv[0], f"-runs={count}", f"-seed={seed % 2**31 + 1}", f"-max_len={4 * len(target.good) + 4096}", "-rss_limit_mb=0", "-timeout=60",
                 f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup(arguments, one, custom_mutator=change)
    atheris.Fuzz()
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*")
    p.add_argument("--each", type=int, default=0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--record", action="store_true")
    a = p.parse_args()
    if not a.each: a.names, a.each = a.names[:-1], int(a.names[-1])
    from fuzz_readers import RECORD, warm_up
    warm_up()
    bad, rows = 0, {}
    for name in a.names or READERS:
        _, number, wrong = tools.in_child(run_atheris, READERS[name], a.seed, a.each)
        failed = list((tools.FAILED / tools.slug(name)).glob(f"atheris{a.seed}_*.txt"))
        rows[name] = max(0, number + 1)
        bad += bool(failed) or "crash" in wrong or "hang" in wrong or number < 0
        print(f"fuzz: atheris: {name}: {rows[name]} inputs, seed {a.seed}, " + ("; ".join(f.read_text().splitlines()[1] for f in failed) or "no failure" if number >= 0 else f"FAILED {wrong}"), flush=True)
    print(f"fuzz: atheris: {sum(rows.values())} inputs to {len(rows)} readers, seed {a.seed}, {bad} failures")
    if a.record and RECORD.exists():
        d = json.loads(RECORD.read_text(encoding="utf-8"))
        for name, n in rows.items():
            if name in d["per_reader"]: d["per_reader"][name]["atheris"] = n
        d["inputs"] = sum(r["inputs"] + r["hypothesis"] + r.get("atheris", 0) for r in d["per_reader"].values())
        d["failures"] = sum(len(r["failures"]) for r in d["per_reader"].values()) + bad
        RECORD.write_text(json.dumps(d, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__": sys.exit(main())
