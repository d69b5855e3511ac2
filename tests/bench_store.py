"""Clip loading: the memory-mapped store against one pickle per clip (what the reference writes).

`bench()` returns rows (name, ours_ms, reference_ms, ratio); the disk row gives megabytes and ours / reference.
Run alone: `python tests/bench_store.py`.
"""
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from humanbody.data.store import ClipSampler, MotionStore

LENGTH, STRIDE, BATCH, VIDEOS, FRAMES, JOINTS = 243, 81, 32, 50, 2000, 17


def make_store(path):
    """50 videos of 2000 frames, one view each: 100k frames of 2D and 3D."""
    rng = np.random.default_rng(0)
    with MotionStore.create(path) as w:
        for i in range(VIDEOS):
            x = rng.normal(size=(2, FRAMES, JOINTS, 3)).astype("f4")
            w.add_motion(f"m{i}", {"joints/h36m_17": x[0]}, f"S{i}")
            w.add_view(f"m{i}", {"size": [1000, 1000]}, {"kp2d/h36m_17": np.abs(x[1])})
    return MotionStore(path)


def write_pickles(folder, clips):
    """One {data_input, data_label} pickle per clip."""
    folder.mkdir()
    for i in range(len(clips)):
        g = clips.gather([i], ["kp2d/h36m_17", "joints/h36m_17"])
        item = dict(data_input=g["kp2d/h36m_17"][0], data_label=g["joints/h36m_17"][0])
        with open(folder / f"{i:08d}.pkl", "wb") as f: pickle.dump(item, f)


def read_ours(clips, sampler, epoch):
    for s in range(len(sampler)):
        g = clips.gather(sampler.batch(epoch, s), ["kp2d/h36m_17", "joints/h36m_17"])
        yield torch.from_numpy(g["kp2d/h36m_17"]), torch.from_numpy(g["joints/h36m_17"])


def read_pickles(folder, sampler, epoch):
    for s in range(len(sampler)):
        x, y = [], []
        for i in sampler.batch(epoch, s):
            with open(folder / f"{i:08d}.pkl", "rb") as f: d = pickle.load(f)
            x.append(torch.FloatTensor(d["data_input"])), y.append(torch.FloatTensor(d["data_label"]))
        yield torch.stack(x), torch.stack(y)


def seconds(batches):
    """CPU time of one pass (the machine may be loaded)."""
    t = time.process_time()
    n = sum(len(x) for x, _ in batches)
    return (time.process_time() - t) / n


def bench(repeats=5):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        store = make_store(d / "store")
        clips = store.clips(LENGTH, STRIDE)
        write_pickles(d / "pickles", clips)
        sampler = ClipSampler(len(clips), BATCH, seed=1)
        for (a, b), (c, e) in zip(read_ours(clips, sampler, 0), read_pickles(d / "pickles", sampler, 0)):
            assert torch.equal(a, c) and torch.equal(b, e)
        rounds = [(seconds(read_ours(clips, sampler, k)), seconds(read_pickles(d / "pickles", sampler, k))) for k in range(repeats)]
        ours, ref = (1e3 * min(r) for r in zip(*rounds))
        size = [sum(f.stat().st_size for f in (d / p).iterdir()) / 1e6 for p in ("store", "pickles")]
    return [(f"clip loading {LENGTH}/{STRIDE}, CPU ms per clip (ratio: times faster)", ours, ref, ref / ours),
            (f"clips on disk {LENGTH}/{STRIDE}, MB (ratio: ours / reference)", *size, size[0] / size[1])]


if __name__ == "__main__":
    for row in bench(): print("{:70s} {:10.4f} {:10.4f} {:8.2f}".format(*row))
