"""A tiny store, configuration and forked runs shared by the training tests."""
import os
import sys
import traceback
from pathlib import Path

import numpy as np
import torch

from humanbody.camera import look_at
from humanbody.config import load_config
from humanbody.data.store import MotionStore
from humanbody.skeleton import get_skeleton
from humanbody.training import fit


def make_store(path, skeleton="h36m_17", frames=(60, 50, 40), seed=0):
    """Three subjects in smooth motion, two cameras each; the last subject is for validation."""
    sk, rng = get_skeleton(skeleton), np.random.default_rng(seed)
    cams = [look_at(eye, (0, 1, 0), (0, 1, 0), 900, (1000, 800)) for eye in ((0, 1.5, 4), (4, 1.5, 0))]
    with MotionStore.create(path) as w:
        for i, t in enumerate(frames):
            s, phase = np.linspace(0, 6, t)[:, None, None], rng.normal(size=(1, sk.num_joints, 3))
            x = (rng.normal(0, 0.3, (1, sk.num_joints, 3)) + 0.2 * np.sin(s + phase) + [0, 0.9, 0]).astype("f4")
            w.add_motion(f"m{i}", {f"joints/{skeleton}": x}, f"S{i}", split="train" if i < 2 else "validation")
            for c in cams:
                px = c.project_world(x)
                w.add_view(f"m{i}", c, {f"kp2d/{skeleton}": np.concatenate([px, np.ones_like(px[..., :1])], -1)})
    return str(path)


def tiny(root, out, **kw):
    """A run of a few hundred milliseconds: 4 epochs of 5 steps of a one-layer DSTformer."""
    store = Path(root) / "store"
    if not store.exists(): make_store(store)
    return load_config(dict(
        data=str(store), out=str(Path(root) / out), val_split="validation", clip_length=9, clip_stride=3,
        batch_size=14, epochs=4, lr=1e-3, noise=0.02, mask_joint=0.05, tensorboard=False,
        model_args=dict(dim_feat=16, dim_rep=16, depth=1, num_heads=2, mlp_ratio=1, maxlen=9)) | kw)


def fork_fit(config, before=None, task=None):
    """Start `fit` in a forked child (torch is loaded already) and return its process id."""
    torch.set_num_threads(1)
    pid = os.fork()
    if pid: return pid
    try:
        if before: before()
        r = fit(config, task, progress=False)
        code = 130 if r.stopped else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)


def exit_code(pid):
    """Wait for a child: its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def weights(config, name="final.safetensors"):
    """Return the bytes of a weight file of a run."""
    return (Path(config.out) / name).read_bytes()
