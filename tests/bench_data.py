"""Data: the lifting source file at the size of Human3.6M, ours against the loops of the reference reader.

`bench()` returns rows (name, ours_ms, reference_ms, ratio). HUMANBODY_BENCH_FRAMES sets the number of frames (default 1,500,000).
Run alone: `python tests/bench_data.py`.
"""
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy starts its threads
    os.environ.setdefault(_name, "1")

import pickle
import tempfile
import time
from pathlib import Path

import numpy as np

from humanbody.data.h36m import H36M_CAMERAS, read_2d, read_3d, read_h36m
from humanbody.data.lifting_store import h36m_store
from humanbody.data.store import MotionStore

FRAMES = int(os.environ.get("HUMANBODY_BENCH_FRAMES", "1500000"))
SLICE, JOINTS, VIDEO = 100_000, 17, 2000


def source_file(path, frames, split="train"):
    """Write a source pickle of the published layout with synthetic float32 points."""
    rng = np.random.default_rng(0)
    video = np.arange(frames) // VIDEO
    names = np.array([f"s_{1 + v % 5:02d}_act_{2 + v // 5 % 15:02d}_subact_{1 + v // 75 % 2:02d}_ca_{1 + v // 150 % 4:02d}_{v}" for v in range(video[-1] + 1)])
    cameras = np.array(sorted(H36M_CAMERAS))
    data = {split: dict(joint_2d=rng.random((frames, JOINTS, 2), np.float32) * 1000, confidence=rng.random((frames, JOINTS), np.float32),
                        joint3d_image=rng.random((frames, JOINTS, 3), np.float32) * 1000, camera_name=cameras[video % 4], source=names[video])}
    with open(path, "wb") as f: pickle.dump(data, f, protocol=4)
    return path


def loop_read(path, split="train"):
    """The way of the reference as it is described: unpickle, then one Python step per frame for 2D and again for 3D."""
    with open(path, "rb") as f: data = pickle.load(f)[split]
    out = []
    for key, depth in (("joint_2d", 2), ("joint3d_image", 3)):
        points = data[key].astype(np.float32)[..., :depth]
        for i, camera in enumerate(data["camera_name"]):
            if camera == "54138969" or camera == "60457274": w, h = 1000, 1002
            elif camera == "55011271" or camera == "58860488": w, h = 1000, 1000
            else: raise ValueError(camera)
            points[i, :, :2] = points[i, :, :2] / w * 2 - [1, h / w]
            if depth == 3: points[i, :, 2:] = points[i, :, 2:] / w * 2
        out.append(points)
    confidence = data["confidence"].astype(np.float32)
    return np.concatenate([out[0], confidence[:, :, None]], axis=2), out[1]


def our_read(path, split="train"):
    """The same through the safe reader."""
    data = read_h36m(path)[split]
    return read_2d(data), read_3d(data)


def seconds(action):
    """CPU time of one call (the machine may be loaded)."""
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def bench_h36m(folder, repeats=3):
    """Reading and normalising, in turns: ours on all frames and on a slice, the loops on the slice."""
    small = source_file(folder / "slice.pkl", min(SLICE, FRAMES))
    pairs = []
    for _ in range(repeats):
        (a, x), (b, y) = seconds(lambda: our_read(small)), seconds(lambda: loop_read(small))
        assert all(np.abs(p - q).max() < 1e-6 for p, q in zip(x, y)), "the two readers disagree"
        pairs.append((a, b))
    ours, loops = (min(p) for p in zip(*pairs))
    yield f"H36M source pickle read and normalised, {min(SLICE, FRAMES)} frames, CPU ms (ratio: times faster)", 1e3 * ours, 1e3 * loops, loops / ours


def bench_store_opening(folder, repeats=3):
    """A store of all frames: time to open it and to reach its first and last clip, against unpickling the source."""
    path = source_file(folder / "all.pkl", FRAMES)
    start = time.perf_counter()
    h36m_store(path, folder / "store")
    converted = time.perf_counter() - start

    def opened():
        store = MotionStore(folder / "store")
        clips = store.clips(243, 81)
        return clips.gather([0, len(clips) - 1], ["kp2d/h36m_17", "joints_image/h36m_17"])

    def unpickled():
        with open(path, "rb") as f: return pickle.load(f)

    ours, ref = [], []
    for _ in range(repeats):
        for kept, action in ((ours, opened), (ref, unpickled)):
            start = time.perf_counter()
            action()
            kept.append(time.perf_counter() - start)
    print(f"bench_data: {FRAMES} frames became a store in {converted:.1f} s (wall), once")
    name = f"MotionStore of {FRAMES} frames opened, first and last clip, wall ms (ratio: times faster than unpickling)"
    yield name, 1e3 * min(ours), 1e3 * min(ref), min(ref) / min(ours)


def bench():
    with tempfile.TemporaryDirectory() as d:
        return [*bench_h36m(Path(d)), *bench_store_opening(Path(d))]


if __name__ == "__main__":
    for row in bench(): print("{:110s} {:10.1f} {:10.1f} {:8.2f}".format(*row))
