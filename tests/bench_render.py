"""Time the rasteriser and the synthetic pictures on one thread: `python tests/bench_render.py` prints a table, `bench()` returns it.

The reference of the rasteriser is pytorch3d's CPU path as the project's measurements record it (3,117 ms for a body at 224 px); it is quoted, not measured here.
"""
from __future__ import annotations

import time
from typing import Callable

import torch

from humanbody.body import load_body
from humanbody.data.image_scenes import SceneOptions, draw_scene
from humanbody.render import rasterize

Row = tuple[str, float, float, float]  # name, ours_ms, reference_ms, reference / ours
PYTORCH3D_MS = 3117.0  # quoted: one body, 224 px, CPU
BUDGET_MS = 180.0  # per synthetic picture: 5,000 in 15 minutes


def least(call: Callable, repeats: int) -> float:
    "Return the least CPU time of a call in ms."
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best * 1e3


def raster_rows(repeats: int) -> list[Row]:
    "Time one body and a batch at 224 px; the body covers about 5,000 pixels."
    body = load_body()
    one = (body.v_template * torch.tensor([1.0, -1.0, -1.0]) + torch.tensor([0.0, -0.3, 4.5]))[None]
    K = torch.tensor([[500.0, 0, 112], [0, 500, 112], [0, 0, 1]])
    many = one.expand(32, -1, -1).contiguous()
    times = {
        "rasteriser, body at 224 px": least(lambda: rasterize(one, body.faces, K, (224, 224)), repeats),
        "rasteriser, body at 224 px, back faces culled": least(lambda: rasterize(one, body.faces, K, (224, 224), cull_backfaces=True), repeats),
        "rasteriser, body at 224 px, batch 32": least(lambda: rasterize(many, body.faces, K, (224, 224)), max(repeats // 8, 1)) / len(many),
    }
    return [(f"{name} (pytorch3d quoted)", ms, PYTORCH3D_MS, PYTORCH3D_MS / ms) for name, ms in times.items()]


def picture_row(pictures: int) -> Row:
    "Time synthetic pictures at 224 px with everything in them, new people included."
    options = SceneOptions()
    draw_scene(9, 0, options)
    start = time.process_time()
    for k in range(pictures):
        draw_scene(9, options.per_subject + k, options)
    ms = (time.process_time() - start) * 1e3 / pictures
    return "synthetic picture at 224 px (budget of 5,000 in 15 min)", ms, BUDGET_MS, BUDGET_MS / ms


def bench(repeats: int = 40, pictures: int = 100) -> list[Row]:
    "Return rows (name, ours_ms, reference_ms, ratio)."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return [*raster_rows(repeats), picture_row(pictures)]
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    for name, ours, reference, ratio in bench():
        print(f"{name:70s} {ours:8.2f} ms   reference {reference:8.1f} ms   x{ratio:.1f}")
