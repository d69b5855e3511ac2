"""Posture scores: vectorised RULA and REBA against a loop with plain ifs over the same postures.

Inputs are arrays throughout: angles float64, flags int8. The reference scores one posture at a time on Python numbers (`score_oracle`), on a part of the
postures, and its time is scaled to all. `bench()` returns rows (name, ours_ms, reference_ms, ratio). Run alone: `python tests/bench_scores.py`.
"""
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from score_oracle import DATA, reba_one, rula_one

from humanbody.ergo.scores import reba, rula

POSTURES, PART, ROUNDS = 1_000_000, 10_000, 3


def inputs(method, n, seed=0):
    """Random postures: angles in degrees, flags as small integers."""
    rng, out = np.random.default_rng(seed), {}
    for name, record in DATA[method]["inputs"].items():
        angle = record["kind"] == "angle"
        out[name] = rng.uniform(-60, 150, n) if angle else rng.integers(record["range"][0], record["range"][1] + 1, n).astype(np.int8)
    return out


def least(f, rounds):
    """CPU seconds of the fastest of several rounds."""
    best = np.inf
    for _ in range(rounds):
        start = time.process_time()
        f()
        best = min(best, time.process_time() - start)
    return best


def bench():
    """Rows (name, ours_ms, reference_ms, ratio) for a million postures each."""
    rows, seconds = [], {}
    for method, ours, one in (("rula", rula, rula_one), ("reba", reba, reba_one)):
        x = inputs(method, POSTURES)
        rows_in = [dict(zip(x, v)) for v in zip(*(v[:PART].tolist() for v in x.values()))]
        a = least(lambda: ours(**x), ROUNDS)
        b = least(lambda: [one(r) for r in rows_in], 2) * POSTURES / PART
        seconds[method] = (a, b)
        rows.append((f"{method.upper()} scores, {POSTURES:,} postures", 1e3 * a, 1e3 * b, b / a))
    a, b = (sum(s[i] for s in seconds.values()) for i in (0, 1))
    rows.append((f"RULA + REBA scores, {POSTURES:,} postures", 1e3 * a, 1e3 * b, b / a))
    return rows


if __name__ == "__main__":
    for name, ours, reference, ratio in bench():
        print(f"{name:45s} ours {ours:9.1f} ms ({POSTURES / ours / 1e3:5.2f} M/s)   loop {reference:10.1f} ms   ratio {ratio:6.1f}")
