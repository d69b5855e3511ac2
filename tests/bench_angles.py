"""Joint angles of a million frames of 66 points against a loop over frames.

`bench()` returns rows (name, ours, reference, ratio = reference / ours): CPU milliseconds of one thread per 1000 frames. Ours computes all angles with
reasons in double precision; the reference calls the same function on one frame at a time (its input and output arrays made once), measured on fewer
frames. Run alone: `python tests/bench_angles.py [frames]`; it prints frames per second too.
"""
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy and torch start their threads
    os.environ.setdefault(_name, "1")

import json
import sys
import time
from pathlib import Path

import numpy as np

from humanbody.ergo.angle_results import ANGLES_ALL, angle_keys
from humanbody.ergo.angles import angles_from_points

FRAMES, LOOP = 1_000_000, 60
UP = (0.0, 1.0, 0.0)


def motion(frames):
    "Return noisy constructed poses: point name -> (T,3) metres, each contiguous."
    fixture = json.loads((Path(__file__).parent / "fixtures" / "ergonomics" / "poses.json").read_text(encoding="utf-8"))
    poses, rng = np.array([p["keypoints66"] for p in fixture["poses"]]), np.random.default_rng(0)
    pick = np.arange(frames) % len(poses)
    return {n: poses[pick, i] + rng.normal(0, 0.01, (frames, 3)) for i, n in enumerate(fixture["meta"]["order66"])}


def cpu_s(function):
    "Return CPU seconds and the result of one call."
    start = time.process_time()
    out = function()
    return time.process_time() - start, out


def bench(frames=FRAMES, rounds=2):
    points = motion(frames)
    ours, angles = min((cpu_s(lambda: angles_from_points(points, UP)) for _ in range(rounds)), key=lambda r: r[0])
    few = [{n: v[i:i + 1] for n, v in points.items()} for i in range(LOOP)]
    reference, singles = min((cpu_s(lambda: [angles_from_points(f, UP) for f in few]) for _ in range(rounds)), key=lambda r: r[0])
    for n in (k for m in ANGLES_ALL for k in angle_keys(m)):
        np.testing.assert_allclose(angles[n][:LOOP], [s[n][0] for s in singles], atol=1e-9)
    a, b = 1e3 * ours / frames * 1e3, 1e3 * reference / LOOP * 1e3
    return [(f"joint angles: {len(angles)} angles with reasons from {len(points)} points, {frames / 1e6:g} M frames at {frames / ours:,.0f} frames/s, "
             "ms per 1000 frames against a loop over frames", a, b, b / a)]


if __name__ == "__main__":
    for row in bench(*(int(a) for a in sys.argv[1:2])): print("{:150s} {:10.2f} {:10.1f} {:8.1f}".format(*row))
