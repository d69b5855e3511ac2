"""Time a step of SMPLify on joints against the same step on the whole mesh, interleaved, on one thread: `python tests/bench_smplify.py`."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from bench_body import dense_correctives, interleaved
from humanbody.body import Body, load_body
from humanbody.pose_prior import load_prior
from humanbody.skeleton import get_skeleton
from humanbody.smplify import SmplifyOptions, _fit, _problem
from humanbody.spin_joints import spin_joints_of_mesh

Row = tuple[str, float, float, float]  # name, ours_ms, twin_ms, twin / ours
STEPS = {1: 60, 64: 20}  # in a run; a fit takes up to 100 in each stage, and what it does once should not count for much


def start(B: int) -> tuple:
    "Return keypoints, pose, betas and places of B people."
    r = torch.Generator().manual_seed(2)
    kp = torch.cat([112 + 40 * torch.randn(B, get_skeleton("spin_49").num_joints, 2, generator=r), torch.ones(B, get_skeleton("spin_49").num_joints, 1)], -1)
    pose = 0.2 * torch.randn(B, get_skeleton("smpl_24").num_joints, 3, generator=r)
    return kp, pose, torch.zeros(B, 10), torch.tensor([[0, 0, 45.0]]).expand(B, 3)


def rows_for(body: Body, label: str, repeats: int, batches: tuple = (1, 64)) -> list[Row]:
    "Time single steps of both stages; the twin makes the mesh in each, as SPIN does."
    rows, o = [], SmplifyOptions(mode="reference")
    mesh = lambda betas, pose: spin_joints_of_mesh(body, body(betas, pose))
    for B in batches:
        kp, *state = start(B)

        def job(points: Callable | None, stage: int) -> Callable:
            steps = (STEPS[B], 0) if stage == 1 else (0, STEPS[B])
            problem = _problem(body, kp, None, get_skeleton("spin_49"), load_prior(), replace(o, steps=steps), points)
            return (lambda: _fit(problem, body, *state)) if points is None or stage == 2 else (lambda: mesh_place(problem, *state, STEPS[B]))

        for stage in (1, 2):
            a, b = interleaved(job(None, stage), job(mesh, stage), repeats)
            rows.append((f"SMPLify step, {label}, stage {stage}, batch {B} against the whole mesh", a / STEPS[B], b / STEPS[B], b / a))
    return rows


def mesh_place(problem, pose, betas, trans, steps):
    "Run the first stage with the mesh made in every step."
    turn, move = (x.clone().requires_grad_() for x in (pose[:, :1], trans))
    optimiser = torch.optim.Adam([turn, move], lr=problem.options.lr, fused=True)
    for _ in range(steps):
        value = problem.place(problem.points(betas, torch.cat([turn, pose[:, 1:]], 1)), move, trans[:, 2]).sum()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()


def bench(repeats: int = 3, batches: tuple = (1, 64)) -> list[Row]:
    "Return rows (name, ours_ms, twin_ms, ratio) per step for the free body and for dense correctives."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        body = load_body()
        return rows_for(body, "free body", repeats, batches) + rows_for(dense_correctives(body), "dense correctives (as SMPL)", repeats, batches)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    for name, ours, twin, ratio in bench():
        print(f"{name:50s} {ours:8.3f} ms/step   whole mesh {twin:9.3f} ms/step   x{ratio:.2f}", flush=True)
