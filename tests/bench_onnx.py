"""Exported lifters: onnxruntime fp32 and int8 against PyTorch eager, same weights, one clip of 27 frames.

`bench()` returns rows (name, ours_ms, reference_ms, ratio = reference / ours) in CPU milliseconds of one thread; the three take turns in one
process. Weights do not change the time, so untrained lifters do. Run alone: `python tests/bench_onnx.py`.
"""
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy and torch start their threads
    os.environ.setdefault(_name, "1")

import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from humanbody.deployment import example_clips, export_lifter, load_onnx
from humanbody.inference import load_lifter
from humanbody.models.export_adapters import make_adapter
from humanbody.models.model_table import LIFTERS, construct
from humanbody.onnx_variants import make_int8
from humanbody.skeleton import get_skeleton

FRAMES = 27
SHIPPED = ("temporal_h36m_17", "temporal_vehs_66")  # the shipped lifters; the first is the default for 17 joints
OTHERS = ("dstformer_small", "hypergraph_student", "motionagformer_xs")


def lifters():
    """Return (label, model, skeleton) of every lifter to time."""
    torch.manual_seed(0)
    for name in SHIPPED:
        own = load_lifter(name)
        yield f"{name} (shipped)", own.model, own.skeleton
    for name in OTHERS:
        if LIFTERS[name].offered: yield name, construct(LIFTERS[name].builder, "h36m_17", FRAMES, **LIFTERS[name].args).eval(), get_skeleton("h36m_17")


def cpu_ms(functions, repeats):
    """Return the least CPU milliseconds of each function, run in turn."""
    best = [float("inf")] * len(functions)
    for f in functions: f()
    for _ in range(repeats):
        for i, f in enumerate(functions):
            start = time.process_time()
            f()
            best[i] = min(best[i], 1e3 * (time.process_time() - start))
    return best


def rows_of(label, model, skeleton, folder, repeats=20):
    """Export one lifter and time it."""
    adapter = make_adapter(model, skeleton).eval()
    clip = example_clips(skeleton, 1, FRAMES, adapter.input)
    plain = [v.numpy() for v in clip]
    full = load_onnx(export_lifter(model, folder / "full.onnx", skeleton, frames=FRAMES).path, threads=1)
    small = load_onnx(make_int8(full.path, folder / "int8.onnx"), threads=1)

    def eager():
        with torch.inference_mode(): return adapter.eager(*clip)[0].numpy()

    assert np.abs(eager() - full.predict(*plain)).max() < 1e-4, "the file differs from the model"
    a, b, c = cpu_ms([eager, lambda: full.predict(*plain), lambda: small.predict(*plain)], repeats)
    what = f"ONNX {label}, T {FRAMES}, {skeleton.num_joints} joints, 1 clip"
    return [(f"{what}, onnxruntime fp32", b, a, a / b), (f"{what}, onnxruntime int8", c, a, a / c)]


def bench():
    if not all(importlib.util.find_spec(n) for n in ("onnx", "onnxruntime", "onnxscript")):
        print("bench_onnx: did not run: pip install 'humanbody[onnx]'")
        return []
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        return [row for lifter in lifters() for row in rows_of(*lifter, Path(d))]


if __name__ == "__main__":
    for row in bench(): print("{:100s} {:10.2f} {:10.2f} {:8.2f}".format(*row))
