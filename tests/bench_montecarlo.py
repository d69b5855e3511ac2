"""Scores with error bars: 1,000 draws of joint angles x 10,000 frames through RULA and REBA, against a loop that scores one draw at a time.

The draws are made in angle space (correlated between angles and over time), pushed through the input rules and score tables, and counted; with drivers,
the share of each angle in the variance is kept as well. Time is CPU time of one thread. The reference draws in the same way but calls the score once per draw, side and
method as a plain program would, on a few draws; its time is scaled to all. `bench()` returns rows (name, ours_ms, reference_ms, ratio).
Run alone: `python tests/bench_montecarlo.py` (`--part 100` for a tenth of the draws).
"""
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import sys
import time

import numpy as np

from humanbody.ergo.angles import ANGLES_ALL, angle_keys
from humanbody.ergo.error_model import fit_error_model, sample_truth
from humanbody.ergo.montecarlo import draw_trial
from humanbody.ergo.score_inputs import measure, score_inputs
from humanbody.ergo.trial_scores import score

DRAWS, FRAMES, FPS, LOOP = 1000, 10_000, 50.0, 2
UPRIGHT = dict(trunk_flexion_gravity=25.0, shoulder_elevation=40.0, elbow_flexion_included=70.0, knee_flexion_included=30.0)


def recording(frames=FRAMES, seed=0):
    """Return a slow random recording of every angle [deg], (frames,) each."""
    rng, t, out = np.random.default_rng(seed), np.arange(frames) / FPS, {}
    for name in ANGLES_ALL:
        for key in angle_keys(name):
            waves = rng.normal(0, 12, (6, 1)) * np.sin(2 * np.pi * rng.uniform(0.05, 0.8, (6, 1)) * t + rng.uniform(0, 6.3, (6, 1)))
            out[key] = UPRIGHT.get(name, 0.0) + waves.sum(0)
    return out


def error_model(seed=1, people=8, frames=400):
    """Return a model of errors of about 5 degrees that last for about a third of a second."""
    rng, n = np.random.default_rng(seed), people * frames
    truth = {k: rng.uniform(-60, 120, n) for k in recording(2)}
    fade = np.exp(-1 / (FPS * 0.3))
    errors = rng.normal(0, 1, (len(truth), n))
    for i in range(1, n): errors[:, i] = fade * errors[:, i - 1] + np.sqrt(1 - fade**2) * errors[:, i]
    who = np.repeat(np.arange(people), frames)
    return fit_error_model({k: v + 5 * e for (k, v), e in zip(truth.items(), errors)}, truth, who, who, FPS, "made up")


def loop(angles, model, method, sides, draws, total):
    """Score one draw at a time on its own, in double precision."""
    counts = np.zeros((len(next(iter(angles.values()))), 16), np.int64)
    parts = sample_truth(model, angles, FPS, draws, chunk=1)
    for part in parts:
        drawn = {**angles, **{k: np.asarray(v[0], np.float64) for k, v in part.items()}}
        one = np.fmax.reduce([score(score_inputs(measure(drawn), method, s))[total] for s in sides])
        good = np.isfinite(one)
        counts[np.flatnonzero(good), one[good].astype(int)] += 1
    return counts


def cpu(f):
    """Return CPU seconds and the result."""
    start = time.process_time()
    out = f()
    return time.process_time() - start, out


def bench(draws=DRAWS):
    """Rows (name, ours_ms, reference_ms, ratio)."""
    angles, model, rows = recording(), error_model(), []
    for side, sides, drivers in (("right", ("right",), False), ("worst", ("right", "left"), True)):
        a = cpu(lambda: draw_trial(angles, model, ("rula", "reba"), side, FPS, draws, drivers=drivers))[0]
        b = sum(cpu(lambda: loop(angles, model, m, sides, LOOP, t))[0] for m, t in (("rula", "grand"), ("reba", "reba"))) * draws / LOOP
        rows.append((f"{draws:,} draws x {FRAMES:,} frames, RULA + REBA, {'worst side, with drivers' if drivers else 'one side'}", 1e3 * a, 1e3 * b, b / a))
    return rows


if __name__ == "__main__":
    n = int(sys.argv[sys.argv.index("--part") + 1]) if "--part" in sys.argv else DRAWS
    for name, ours, reference, ratio in bench(n):
        print(f"{name:75s} ours {ours / 1e3:6.1f} s   loop {reference / 1e3:7.1f} s   ratio {ratio:5.1f}")
