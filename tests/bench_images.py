"""Image loading: our loader against a straightforward SPIN-style one written from its description.

The reference decodes the whole picture with Pillow, converts it to floats, pads and crops, rotates with scipy when the augmentation turns, resizes with
Pillow, applies the channel gains, normalises, and transforms the labels joint by joint. Ours serves the same rows with the same augmentations in its named
modes: "reference" (the same bytes, optimised), "exact" (one sub-pixel resample), "fast" (JPEG decoded at reduced size, bilinear) and "fast with cache".
`bench()` returns rows (name, ours_ms, reference_ms, ratio), per image. Run alone: `python tests/bench_images.py`.
"""
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from humanbody.data.imageloader import CropCache, ImageDataset, collate_images
from humanbody.data.imagestore import ImageStore
from humanbody.skeleton import get_skeleton

ROWS, BATCH, RES = 32, 16, 224
MODES = ("reference", "exact", "fast", "fast with cache")
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None], np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


def make_set(folder, size, share):
    """JPEGs of natural smoothness with a little grain; the box is `share` of the shorter side, with spread."""
    rng, sk = np.random.default_rng(0), get_skeleton("spin_24")
    (folder / "images").mkdir(parents=True)
    for i in range(ROWS):
        coarse = Image.fromarray(rng.integers(0, 256, (size[1] // 16, size[0] // 16, 3)).astype(np.uint8))
        picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) + rng.normal(0, 4, (size[1], size[0], 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"images/{i:03d}.jpg", quality=90)
    side = min(size) * share * rng.uniform(0.8, 1.2, ROWS)
    center = np.array(size) / 2 + rng.normal(0, 30, (ROWS, 2))
    kp = np.concatenate([center[:, None] + rng.normal(size=(ROWS, sk.num_joints, 2)) * 50, np.ones((ROWS, sk.num_joints, 1))], 2)
    joints = np.concatenate([rng.normal(size=(ROWS, sk.num_joints, 3)), np.ones((ROWS, sk.num_joints, 1))], 2)
    labels = {"keypoints2d/spin_24": kp, "joints3d/spin_24": joints, "pose": rng.normal(size=(ROWS, 72)) * 0.3, "betas": rng.normal(size=(ROWS, 10))}
    names = [f"images/{i:03d}.jpg" for i in range(ROWS)]
    return ImageStore.create(folder / "store", "bench", "train", names, center, side / 200, labels)


def get_transform(center, scale, rot):
    h = 200 * scale
    t = np.array([[RES / h, 0, RES * (-center[0] / h + 0.5)], [0, RES / h, RES * (-center[1] / h + 0.5)], [0, 0, 1]])
    if rot:
        a = -np.deg2rad(rot)
        turn, shift = np.eye(3), np.eye(3)
        turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        shift[:2, 2] = -RES / 2
        t = np.linalg.inv(shift) @ turn @ shift @ t
    return t


def transform(point, center, scale, inverse=False, rot=0.0):
    t = get_transform(center, scale, rot)
    if inverse: t = np.linalg.inv(t)
    return (t @ np.array([point[0] - 1, point[1] - 1, 1.0]))[:2].astype(int) + 1


def slow_crop(picture, center, scale, rot):
    """Pad, crop, rotate, resize, as described for the published loaders; values stay in 0..255."""
    low = transform([1, 1], center, scale, inverse=True) - 1
    high = transform([RES + 1, RES + 1], center, scale, inverse=True) - 1
    pad = int(np.linalg.norm(high - low) / 2 - (high[1] - low[1]) / 2)
    if rot: low, high = low - pad, high + pad
    out = np.zeros((high[1] - low[1], high[0] - low[0], 3))
    x, y = (max(0, low[0]), min(picture.shape[1], high[0])), (max(0, low[1]), min(picture.shape[0], high[1]))
    out[y[0] - low[1]:y[1] - low[1], x[0] - low[0]:x[1] - low[0]] = picture[y[0]:y[1], x[0]:x[1]]
    if rot: out = ndimage.rotate(out, rot, reshape=False, order=1)[pad:-pad, pad:-pad]
    return np.array(Image.fromarray(out.clip(0, 255).astype(np.uint8)).resize((RES, RES)))


def slow_sample(folder, store, row, a):
    """One sample of the plain loader with the augmentation `a`."""
    data, sk = store.row(row), get_skeleton("spin_24")
    with Image.open(folder / data["image"]) as im: picture = np.array(im.convert("RGB")).astype(np.float32)
    center, scale = data["center"], data["scale"] * a.scale_factor
    crop = slow_crop(picture, center, scale, a.rot_deg)
    if a.flip: crop = np.fliplr(crop)
    rgb = np.stack([np.clip(crop[..., c] * a.noise[c], 0, 255) for c in range(3)]).astype(np.float32) / 255
    kp = data["keypoints2d/spin_24"].copy()
    for i in range(len(kp)): kp[i, :2] = transform(kp[i, :2] + 1, center, scale, rot=a.rot_deg)
    kp[:, :2] = 2 * kp[:, :2] / RES - 1
    joints = data["joints3d/spin_24"].copy()
    joints[:, :2] = joints[:, :2] @ get_transform([0, 0], 1, a.rot_deg)[:2, :2].T / get_transform([0, 0], 1, 0)[0, 0]
    if a.flip: kp, joints = kp[sk.flip_perm] * [-1, 1, 1], joints[sk.flip_perm] * [-1, 1, 1, 1]
    return dict(image=torch.from_numpy((rgb - MEAN) / STD), kp=torch.from_numpy(kp).float(), joints=torch.from_numpy(joints).float(),
                pose=torch.from_numpy(a.pose(data["pose"])).float(), betas=torch.from_numpy(data["betas"]).float())


def seconds(batches):
    """CPU time per image of one pass (the machine may be loaded)."""
    t, n = time.process_time(), 0
    for b in batches: n += len(b["image"])
    return (time.process_time() - t) / n


def batches(get, collate):
    for i in range(0, ROWS, BATCH): yield collate([get(k) for k in range(i, i + BATCH)])


def bench_set(size, share, rounds, folder):
    store, out = make_set(folder, size, share), []
    make = lambda mode, cache=None: ImageDataset(store, folder, "spin", seed=3, mode=mode, cache=cache)
    data = {m: make("fast", CropCache(folder / "cache", store, RES)) if "cache" in m else make(m) for m in MODES}
    plain = lambda row: slow_sample(folder, store, row, data["exact"].augment(row))
    collate = torch.utils.data.default_collate
    a, b = next(batches(plain, collate)), next(batches(data["reference"].__getitem__, collate_images))
    assert (a["image"] - b["image"]).abs().mean() < 0.05, "the two loaders must give the same pictures"
    assert torch.allclose(a["kp"], b["keypoints2d/spin_24"], atol=1e-5) and torch.allclose(a["joints"], b["joints3d/spin_24"], atol=1e-5)
    seconds(batches(data["fast with cache"].__getitem__, collate_images))  # the first epoch fills the cache
    spent = {m: [] for m in (*MODES, "plain")}
    for epoch in range(rounds):
        for d in data.values(): d.set_epoch(epoch)
        for m in MODES: spent[m].append(seconds(batches(data[m].__getitem__, collate_images)))
        spent["plain"].append(seconds(batches(plain, collate)))
    for m in MODES:  # epochs differ in their turns, so all are summed
        ours, ref = 1e3 * np.mean(spent[m]), 1e3 * np.mean(spent["plain"])
        out.append((f"image loading {size[0]}x{size[1]}, {m}, CPU ms per image", float(ours), float(ref), float(ref / ours)))
    return out


def bench(rounds=5):
    torch.set_num_threads(1)
    out = []
    for size, share in (((1000, 1000), 0.55), ((640, 480), 0.75)):
        with tempfile.TemporaryDirectory() as d: out += bench_set(size, share, rounds, Path(d))
    return out


if __name__ == "__main__":
    for row in bench(): print("{:70s} {:8.2f} {:8.2f} {:6.2f}x  {:6.0f} images/s".format(*row, 1e3 / row[1]))
