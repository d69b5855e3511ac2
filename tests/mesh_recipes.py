"""The inputs, weights and random SMPL model of the image-to-mesh fixtures (tests/fixtures/mesh/README.md)."""
import zlib
from functools import lru_cache

import numpy as np
import torch

from humanbody.body import _make_body
from humanbody.spin_joints import spin_body

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
V = 6890


def rng(name):
    "Return the generator of a name."
    return np.random.default_rng(zlib.crc32(f"mesh/{name}".encode()))


def draw(name, shape, dtype=np.float32):
    "Draw standard normal numbers."
    return rng(name).standard_normal(shape).astype(dtype)


def rows(name, count, chosen):
    "Return a random regressor (count, V); one generator for all rows."
    r, out = rng(name), np.zeros((count, V))
    for row in out:
        idx = r.choice(V, chosen, replace=False)
        w = r.random(chosen)
        row[idx] = w / w.sum()
    return out


@lru_cache(maxsize=3)
def smpl_arrays(gender="neutral"):
    "Return the arrays of the random SMPL model."
    weights = rng(f"smpl/{gender}/weights").random((V, 24)) ** 8
    return dict(
        v_template=rng(f"smpl/{gender}/v_template").uniform(-1, 1, (V, 3)) * [0.35, 0.85, 0.15],
        shapedirs=draw(f"smpl/{gender}/shapedirs", (V, 3, 10), np.float64) * 0.01,
        posedirs=draw(f"smpl/{gender}/posedirs", (V, 3, 207), np.float64) * 0.001,
        J_regressor=rows(f"smpl/{gender}/J_regressor", 24, 16), weights=weights / weights.sum(1, keepdims=True),
        f=rng("smpl/faces").integers(0, V, (13776, 3)), kintree_table=np.stack([PARENTS, np.arange(24)]))


@lru_cache(maxsize=6)
def mesh_body(gender="neutral", extra=True, dtype=torch.float32):
    "Return the random SMPL model as a Body that knows SPIN's joints."
    body = _make_body(dict(smpl_arrays(gender)), "fixture", gender, 10, "fixture").to(dtype=dtype)
    return spin_body(body, rows("J_regressor_extra", 9, 8)) if extra else body


@lru_cache(maxsize=1)
def mean_params():
    "Return mean pose (144,), shape (10,) and camera (3,) float32."
    from scipy.spatial.transform import Rotation
    r = rng("smpl_mean_params")
    aa = r.standard_normal((24, 3)) * 0.2
    aa[0] = [np.pi, 0, 0]
    shape = (r.standard_normal(10) * 0.3).astype(np.float32)
    pose = Rotation.from_rotvec(aa).as_matrix()[:, :, :2].reshape(-1).astype(np.float32)
    return pose, shape, np.array([0.9, 0, 0], np.float32)


def fill(model, gain=False, skip=("init_pose", "init_shape", "init_cam", "Dmap", "points_grid", "masks_points"), prefix=""):
    "Fill a model in place by the flat or the gain recipe; keys are those of its state dict behind `prefix`."
    with torch.no_grad():
        for k, v in model.state_dict().items():
            if not v.is_floating_point() or k.endswith(skip) or ".smpl." in f".{k}": continue
            w = np.random.default_rng(zlib.crc32(f"{prefix}{k}".encode())).standard_normal(tuple(v.shape)).astype(np.float32) * np.float32(0.02)
            if k.endswith("running_var"): w = np.abs(w) + 1
            elif v.ndim == 1 and k.endswith("weight"): w = w + 1
            if gain and v.ndim >= 2: w = w * np.float32(35 / np.sqrt(np.prod(v.shape[1:])))
            v.copy_(torch.from_numpy(np.asarray(w)))
    return model
