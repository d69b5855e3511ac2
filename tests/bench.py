"""`make bench`: speed against the references on one thread; prints one table with the aim of each row and writes figures/bench/metrics.json."""
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy and torch start their threads
    os.environ[_name] = "1"

import argparse
import platform
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch

import bench_angles
import bench_body
import bench_data
import bench_evaluation
import bench_images
import bench_lifting
import bench_montecarlo
import bench_onnx
import bench_pymaf
import bench_render
import bench_scores
import bench_smplify
import bench_store
from humanbody.runs import start_run

MODULES = (bench_angles, bench_body, bench_data, bench_evaluation, bench_images, bench_lifting, bench_montecarlo, bench_onnx, bench_pymaf, bench_render,
           bench_scores, bench_smplify, bench_store)
BF16 = {"amx_bf16", "avx512_bf16", "bf16"}  # processor flags (x86, arm)
AIMS = (  # words that a row's name holds, sense, aim; "ours <=" judges our own milliseconds, the others the ratio
    (("joint angles:",), "ours <=", 5.0),
    (("RULA + REBA scores",), "ours <=", 1000.0),
    (("1,000 draws",), "ours <=", 60000.0),
    (("rasteriser, body at 224 px (",), "ours <=", 10.0),
    (("rasteriser",), ">=", 100.0),
    (("synthetic picture",), "ours <=", 180.0),
    (("SMPLify", "batch 1 "), ">=", 4.0),
    (("SMPLify", "batch 64"), ">=", 10.0),
    (("PyMAF", "batch 1,", "dense products"), ">=", 1.1),
    (("PyMAF bf16",), ">=", 2.0),
    (("bf16", "PA error"), "ours <=", 0.5),
    (("evaluation: MPJPE",), ">=", 10.0),
    (("vertices, batch 1",), ">=", 2.0),
    (("vertices, batch 64",), ">=", 1.5),
    (("points only, batch 64",), ">=", 20.0),
    (("PA-MPJPE",), ">=", 10.0),
    (("DSTformer", ", float32"), ">=", 1.0),
    (("DSTformer", "bf16"), ">=", 2.5),
    (("clip loading",), ">=", 5.0),
    (("on disk",), "<=", 0.4),
    (("source pickle read",), ">=", 5.0),
    (("ONNX", "fp32"), ">=", 1.5),
    (("ONNX", "int8"), ">=", 3.0),
    (("image loading", ", exact"), ">=", 3.0),
    (("image loading", ", fast,"), ">=", 3.0),
)
PROTOCOL = ("CPU time of one thread, least of several rounds; ours and the reference take turns in one process; "
            "ratio = reference / ours, for the disk row ours / reference; values in ms, on disk and memory in MB")


def machine() -> dict[str, Any]:
    "Describe the processor, its bf16 units, threads, torch and how busy the machine is."
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    field = lambda *keys: next((v.split(":", 1)[1].strip() for v in lines if v.split(":")[0].strip() in keys), "")
    load = os.getloadavg() if hasattr(os, "getloadavg") else (float("nan"),) * 3
    return dict(cpu=field("model name") or platform.processor() or platform.machine(), cores=os.cpu_count(),
                bf16=sorted(BF16 & set(field("flags", "Features").split())), threads=torch.get_num_threads(),
                torch=torch.__version__, python=platform.python_version(), load_average=[round(v, 2) for v in load])


def aim_of(name: str, bf16: bool) -> tuple[str, float] | None:
    "Return (sense, aim) of a row; None where there is none on this processor."
    for words, sense, aim in AIMS:
        if all(w in name for w in words):
            return None if any("bf16" in w for w in words) and not bf16 else (sense, aim)
    return None


def judged(row: tuple, bf16: bool) -> dict[str, Any]:
    "Return a row as a record with its aim and whether it was reached."
    name, ours, reference, ratio = row
    aim = aim_of(name, bf16)
    met = None if aim is None else bool(ratio >= aim[1] if aim[0] == ">=" else (ours if "ours" in aim[0] else ratio) <= aim[1])
    return dict(name=name, ours=ours, reference=reference, ratio=ratio, aim="" if aim is None else f"{aim[0]} {aim[1]:g}", met=met)


def table(records: list[dict[str, Any]]) -> str:
    "Return the records as one aligned text table."
    width = max(len(r["name"]) for r in records)
    said = {None: "no aim", True: "reached", False: "MISSED"}
    lines = [f"{'':{width}s} {'ours':>11s} {'reference':>11s} {'ratio':>8s}  {'aim':8s}"]
    lines += [f"{r['name']:{width}s} {r['ours']:11.4g} {r['reference']:11.4g} {r['ratio']:8.2f}  {r['aim']:8s} {said[r['met']]}" for r in records]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    "Run every benchmark, print the table and keep the numbers."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="figures/bench", help="folder of metrics.json")
    out = parser.parse_args(arguments).out
    torch.set_num_threads(1)
    before, rows, seconds = machine(), [], {}
    for module in MODULES:
        print(f"bench: {module.__name__} ...", file=sys.stderr, flush=True)
        start = time.time()
        rows += module.bench()
        seconds[module.__name__] = round(time.time() - start, 1)
    after = machine()
    records = [judged(r, bool(before["bf16"])) for r in rows]
    print(table(records))
    print(f"machine: {before['cpu']}, {before['cores']} cores, bf16: {', '.join(before['bf16']) or 'no'}; threads {after['threads']}; "
          f"torch {before['torch']}; load average {before['load_average']} before, {after['load_average']} after")
    counted = [r for r in records if r["met"] is not None]
    print(f"aims reached: {sum(r['met'] for r in counted)} of {len(counted)}")
    run = start_run("bench", dict(out=out), out)
    run.finish(dict(rows=records, machine=before, load_average_after=after["load_average"], seconds=seconds), PROTOCOL,
               dict(rows=len(records)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
