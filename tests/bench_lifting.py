"""Lifting speed: DSTformer against a plain softmax-attention twin, and batched PA-MPJPE against a per-frame loop.

`bench()` returns rows (name, ours_ms, reference_ms, ratio = reference / ours) in CPU milliseconds of one thread; both
sides run in turn in the same process. The twin has the same weights and differs in nothing but attention, which it
computes with explicit score matrices as the reference does. Run alone: `python tests/bench_lifting.py`.
"""
import copy
import time

import numpy as np
import torch

from humanbody.metrics import pa_mpjpe
from humanbody.models.dstformer import Attention, DSTformer, fill_recipe
from humanbody.skeleton import get_skeleton

FRAMES, POSES = 243, 2000


class PlainAttention(Attention):
    "The textbook formula: scores, softmax, weighted sum."
    def forward(self, x):
        *lead, L, D = x.shape
        H = self.num_heads
        q, k, v = self.qkv(x).reshape(-1, L, 3, H, D // H).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) * (D // H) ** -0.5
        y = scores.softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(*lead, L, D))


def plain_twin(model):
    "Return a copy with the same weights and plain attention."
    twin = copy.deepcopy(model)
    for m in twin.modules():
        if type(m) is Attention:
            m.__class__ = PlainAttention
    return twin


def cpu_ms(functions, repeats):
    "Return the least CPU milliseconds of each function, run in turn."
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for i, f in enumerate(functions):
            start = time.process_time()
            f()
            best[i] = min(best[i], 1e3 * (time.process_time() - start))
    return best


def forward_rows(repeats=2):
    "Base model, one clip: float32 and bf16 autocast against the float32 twin."
    joints = get_skeleton("h36m_17").num_joints
    model = fill_recipe(DSTformer(joints)).eval()
    twin = plain_twin(model)
    x = torch.rand(1, FRAMES, joints, 3)
    out = {}

    def run(name, m, half=False):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            out[name] = m(x).float()

    plain, full, half = cpu_ms([lambda: run("plain", twin), lambda: run("full", model),
                                lambda: run("half", model, True)], repeats)
    assert (out["plain"] - out["full"]).abs().max() < 1e-5
    change = (out["half"] - out["plain"]).abs().max().item()
    label = f"DSTformer base forward, T {FRAMES}, {joints} joints, 1 clip"
    return [(f"{label}, float32", full, plain, plain / full),
            (f"{label}, bf16 autocast (output change {change:.4f}) against float32", half, plain, plain / half)]


def loop_pa_mpjpe(pred, target):
    "The mesh route of the reference: one SVD per frame in a Python loop."
    out = np.empty(len(pred))
    for i, (x, y) in enumerate(zip(pred, target)):
        mx, my = x.mean(0), y.mean(0)
        U, s, Vt = np.linalg.svd((x - mx).T @ (y - my))
        d = np.array([1, 1, np.sign(np.linalg.det(U @ Vt))])
        scale = (s * d).sum() / ((x - mx) ** 2).sum()
        out[i] = np.sqrt(((scale * (x - mx) @ (U * d) @ Vt + my - y) ** 2).sum(-1)).mean() * 1000
    return out


def procrustes_row(repeats=5):
    "Batched alignment of many frames against the loop."
    rng = np.random.default_rng(0)
    y = rng.normal(size=(POSES, get_skeleton("h36m_17").num_joints, 3))
    x = y + 0.1 * rng.normal(size=y.shape)
    np.testing.assert_allclose(pa_mpjpe(x, y), loop_pa_mpjpe(x, y), rtol=1e-9)
    ours, loop = cpu_ms([lambda: pa_mpjpe(x, y), lambda: loop_pa_mpjpe(x, y)], repeats)
    return (f"PA-MPJPE float64, {POSES} frames of 17 joints, against a loop over frames", ours, loop, loop / ours)


def bench():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*forward_rows(), procrustes_row()]
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    for row in bench():
        print("{:100s} {:10.1f} {:10.1f} {:8.2f}".format(*row))
