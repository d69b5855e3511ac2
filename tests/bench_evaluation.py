"""Evaluation of 100 k frames against a loop over frames, and the memory of a training step with activation checkpointing on and off.

`bench()` returns rows (name, ours, reference, ratio = reference / ours). The evaluation rows are CPU milliseconds of one thread; the sides take
turns in one process and must give the same numbers per action. The memory rows are MB (1e6 bytes): the most that tensors allocated during one
step (forward, backward, AdamW) hold at a time, weights not counted, by PyTorch's memory profiler; ours has checkpointing on, the reference off,
and the gradients must agree. Run alone: `python tests/bench_evaluation.py`.
"""
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy and torch start their threads
    os.environ.setdefault(_name, "1")

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from humanbody.conventions import evaluate_all
from humanbody.evaluation import evaluate_lifter
from humanbody.metrics import mpjpe, mpjve, pa_mpjpe
from humanbody.models.dstformer import DSTformer, fill_recipe
from humanbody.models.hypergraph import HypergraphLifter
from humanbody.protocols import get_protocol
from humanbody.skeleton import get_skeleton

SKELETON, ACTIONS, SEQUENCES, LENGTH = "h36m_17", 10, 100, 1000  # 100 k frames
METRICS = ("mpjpe", "pa_mpjpe", "mpjve")
MEMORY_SKELETON, CLIP = "vehs_66", 243
MODELS = {  # full depth, on which the saving depends; a narrow width, on which it hardly does
    "DSTformer, depth 5, 128 of 512 features": lambda sk, on: DSTformer(sk.num_joints, 128, depth=5, maxlen=CLIP, checkpointing=on),
    "HypergraphLifter, depth 8, 64 of 512 features": lambda sk, on: HypergraphLifter(sk.num_joints, 64, skeleton=sk, maxlen=CLIP, checkpointing=on),
}


def sequences():
    "Return predictions and truths (N,T,J,3) in metres with the action of each sequence."
    rng = np.random.default_rng(0)
    joints = get_skeleton(SKELETON).num_joints
    still = rng.normal(scale=0.4, size=(SEQUENCES, 1, joints, 3))
    truth = still + 0.01 * rng.normal(size=(SEQUENCES, LENGTH, joints, 3)).cumsum(1)
    return truth + 0.05 * rng.normal(size=truth.shape), truth, [f"action {i % ACTIONS}" for i in range(SEQUENCES)]


def loop_frame(x, y):
    "Return MPJPE of one frame (J,3), and MPJPE after the best similarity transform, in mm."
    mx, my = x.mean(0), y.mean(0)
    U, s, Vt = np.linalg.svd((x - mx).T @ (y - my))
    d = np.array([1, 1, np.sign(np.linalg.det(U @ Vt))])
    moved = (s * d).sum() / ((x - mx) ** 2).sum() * (x - mx) @ (U * d) @ Vt + my
    error = lambda a: np.sqrt(((a - y) ** 2).sum(-1)).mean() * 1000
    return error(x), error(moved)


def loop_evaluation(pred, truth, actions, root):
    "The plain way: one frame at a time, lists per action, then means. Returns (3,A)."
    found = {a: ([], [], []) for a in sorted(set(actions))}
    for p, t, action in zip(pred, truth, actions):
        plain, aligned, speed = found[action]
        before = None
        for x, y in zip(p, t):
            x, y = x - x[root], y - y[root]
            for out, e in zip((plain, aligned), loop_frame(x, y)): out.append(e)
            if before is not None: speed.append(np.sqrt((((x - before[0]) - (y - before[1])) ** 2).sum(-1)).mean() * 1000)
            before = x, y
    return np.array([[np.mean(lists[i]) for lists in found.values()] for i in range(len(METRICS))])


def metrics_evaluation(pred, truth, actions, root):
    "The functions of humanbody.metrics, one sequence at a time, then means per action. Returns (3,A)."
    found = {a: ([], [], []) for a in sorted(set(actions))}
    for p, t, action in zip(pred, truth, actions):
        errors = mpjpe(p, t, SKELETON), pa_mpjpe(p, t), mpjve(p, t, SKELETON)
        for out, e in zip(found[action], errors): out.append(e)
    return np.array([[np.concatenate(lists[i]).mean() for lists in found.values()] for i in range(len(METRICS))])


def lifter_evaluation(pred, truth, actions, root):
    "evaluate_lifter on the sequences of each action; it measures N-MPJPE and acceleration too."
    pick = lambda x, action: [v for v, a in zip(x, actions) if a == action]
    found = [evaluate_lifter(pick(pred, a), pick(truth, a), SKELETON) for a in sorted(set(actions))]
    return np.array([[f[m] for f in found] for m in METRICS])


def full_evaluation(pred, truth, actions, root):
    "The evaluator with its checks, all averages and tails, tables per joint and per action and bootstrap intervals."
    protocol = replace(get_protocol("h36m_metric"), metrics=METRICS, roots=("skeleton",))
    table = evaluate_all(pred, truth, protocol, SKELETON, flip=True, actions=actions, subjects=[f"S{i % 7}" for i in range(len(pred))]).per_action
    return np.array([[r["value"] for r in table if r["metric"] == m] for m in METRICS])


def cpu_ms(functions, repeats):
    "Return the least CPU milliseconds of each function, run in turn, and what each returned."
    best, values = [float("inf")] * len(functions), [None] * len(functions)
    for _ in range(repeats):
        for i, f in enumerate(functions):
            start = time.process_time()
            values[i] = f()
            best[i] = min(best[i], 1e3 * (time.process_time() - start))
    return best, values


def evaluation_rows(repeats=2):
    "Time three routes and the loop, each over all frames."
    given, routes = (*sequences(), get_skeleton(SKELETON).root), (metrics_evaluation, lifter_evaluation, full_evaluation, loop_evaluation)
    (*ours, loop), values = cpu_ms([lambda f=f: f(*given) for f in routes], repeats)
    for v in values[:-1]: np.testing.assert_allclose(v, values[-1], rtol=1e-6)
    what = f"{SEQUENCES * LENGTH // 1000} k frames of {get_skeleton(SKELETON).num_joints} joints, per action, against a loop over frames"
    names = ("evaluation: MPJPE + PA-MPJPE + velocity", "evaluate_lifter: these and two errors more",
             "evaluate_all: these under all averages and tails, per joint, with intervals")
    return [(f"{name}, {what}", ms, loop, loop / ms) for name, ms in zip(names, ours)]


def peak_mb(step):
    "Run `step` and return the most that tensors allocated in it hold at a time, in MB, with its CPU seconds."
    start = time.process_time()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile: step()
    seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as d:
        profile.export_chrome_trace(str(Path(d) / "trace.json"))
        events = json.loads((Path(d) / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    return float(np.cumsum([b for _, b in changes]).max()) / 1e6, seconds


def memory_row(name):
    "Take one training step with and without checkpointing."
    sk, sides = get_skeleton(MEMORY_SKELETON), []
    x = torch.rand(1, CLIP, sk.num_joints, 3, generator=torch.Generator().manual_seed(0))
    for on in (True, False):
        model = fill_recipe(MODELS[name](sk, on)).train()
        optimizer = torch.optim.AdamW(model.parameters())

        def step():
            model(x).square().mean().backward()
            optimizer.step()

        sides.append((*peak_mb(step), {k: p.grad for k, p in model.named_parameters() if p.grad is not None}))
    (on, on_s, mine), (off, off_s, plain) = sides
    assert mine.keys() == plain.keys() and len(plain)
    for k, g in plain.items(): torch.testing.assert_close(mine[k], g, rtol=1e-4, atol=1e-6 * g.abs().max().item(), msg=lambda m: f"{k}: {m}")
    what = f"training step memory in MB, {name}, T {CLIP}, {sk.num_joints} joints, 1 clip"
    return f"{what}, checkpointing on ({on_s:.0f} s) against off ({off_s:.0f} s)", on, off, off / on


def bench():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*evaluation_rows(), *(memory_row(name) for name in MODELS)]
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    for row in bench(): print("{:150s} {:10.1f} {:10.1f} {:8.2f}".format(*row))
