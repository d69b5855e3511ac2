"""Time the body against smplx, interleaved, on one thread: `python tests/bench_body.py` prints a table, `bench()` returns it."""
from __future__ import annotations

import contextlib
import io
import time
from typing import Callable

import numpy as np
import torch

from humanbody.body import Body, load_body
from humanbody.skinning import rodrigues

Row = tuple[str, float, float, float]  # name, ours_ms, reference_ms, reference / ours


def smplx_layer(body: Body) -> torch.nn.Module:
    "Hand the arrays of a body to smplx."
    import smplx
    from smplx.utils import Struct

    table = np.stack([np.array(body.parents), np.arange(body.num_joints)])
    arrays = {k: getattr(body, k).numpy() for k in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")}
    with contextlib.redirect_stdout(io.StringIO()):
        struct = Struct(kintree_table=table, f=body.faces.numpy(), **arrays)
        return smplx.SMPLLayer("", data_struct=struct, num_betas=body.num_betas)


def interleaved(ours: Callable, reference: Callable, repeats: int) -> tuple[float, float]:
    "Return the least CPU time of each in ms, measured in turn so that a busy machine hits both."
    best = [float("inf"), float("inf")]
    for _ in range(repeats + 2):
        for i, call in enumerate((ours, reference)):
            start = time.process_time()
            call()
            best[i] = min(best[i], time.process_time() - start)
    return best[0] * 1e3, best[1] * 1e3


def dense_correctives(body: Body) -> Body:
    "Give the body correctives without a zero, as the real SMPL has them."
    from dataclasses import replace

    noise = torch.randn(body.blend_t.shape, generator=torch.Generator().manual_seed(0))
    return replace(body, blend_t=body.blend_t + 1e-9 * noise, _cache={})


def rows_for(body: Body, label: str, repeats: int) -> list[Row]:
    "Time one body at batch 1 and 64; pose goes in as matrices on both sides."
    layer, rows, random = smplx_layer(body), [], torch.Generator().manual_seed(1)
    for B in (1, 64):
        betas, trans = torch.randn(B, body.num_betas, generator=random), torch.randn(B, 3, generator=random)
        rot = rodrigues(torch.randn(B, body.num_joints, 3, generator=random) * 0.3)
        smplx = lambda: layer(betas=betas, global_orient=rot[:, :1], body_pose=rot[:, 1:], transl=trans, pose2rot=False)
        jobs = {f"{label}, vertices, batch {B}": lambda: body(betas, rot, trans)}
        if B > 1:
            jobs[f"{label}, 66 points only, batch {B}"] = lambda: body.joints(betas, rot, trans, "vehs_66")
        for name, job in jobs.items():
            ours, reference = interleaved(job, smplx, repeats if B > 1 else 5 * repeats)
            rows.append((name, ours, reference, reference / ours))
    return rows


def bench(repeats: int = 20) -> list[Row]:
    "Return rows (name, ours_ms, smplx_ms, ratio) for the free body and for dense correctives."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            body = load_body()
            return rows_for(body, "free body", repeats) + rows_for(dense_correctives(body), "dense correctives (as SMPL)", repeats)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    for name, ours, reference, ratio in bench():
        print(f"{name:50s} {ours:8.3f} ms   smplx {reference:8.3f} ms   x{ratio:.2f}")
