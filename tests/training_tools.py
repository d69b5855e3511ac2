"""A tiny store, configuration and runs in child processes shared by the training tests."""
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import numpy as np
import torch

from humanbody.camera import look_at
from humanbody.config import load_config
from humanbody.data.store import MotionStore
from humanbody.skeleton import get_skeleton
from humanbody.tasks import LiftingTask
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


_CLEAN = multiprocessing.get_context("forkserver")  # children of a fresh process without threads: forking pytest itself can hang
_CLEAN.set_forkserver_preload(["training_preload"])
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])  # the server finds these files
PATIENCE = 240.0  # seconds; a run here takes one


class Hooked(LiftingTask):
    """A lifting task that does something before the batch of one step; `action` is a function at the top of a module."""

    def __init__(self, config, when, action):
        super().__init__(config)
        self.when, self.action = when, action

    def batch(self, epoch, step):
        b = super().batch(epoch, step)
        if (epoch, step) == self.when: self.action(b)
        return b


def interrupt(batch):
    """Send this process SIGINT."""
    os.kill(os.getpid(), signal.SIGINT)


def full_disk(batch):
    """Let this process write no file beyond 4 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def _child(config, when, action, log):
    """Run `fit` in the child: exit status 130 when stopped, 1 with the traceback in `log` when it failed."""
    faulthandler.dump_traceback_later(PATIENCE - 10, file=sys.__stderr__)
    torch.set_num_threads(1)
    try:
        r = fit(config, Hooked(config, when, action) if action else None, progress=False)
        code = 130 if r.stopped else 0
    except BaseException:
        Path(log).write_text(traceback.format_exc())
        code = 1
    os._exit(code)


def start_fit(config, when=None, action=None):
    """Start `fit` in a child process of a clean server process; what it raised stands in `error_text(config)`."""
    p = _CLEAN.Process(target=_child, args=(config, when, action, f"{config.out}.error"), daemon=True)
    p.start()
    return p


def exit_code(process):
    """Wait for a child: its exit status, or minus the signal that ended it. A child that hangs is killed and fails the test."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"a training of about a second did not end within {PATIENCE:.0f} s")
    return process.exitcode


def error_text(config):
    """Return the traceback of a failed run."""
    return Path(f"{config.out}.error").read_text()


def weights(config, name="final.safetensors"):
    """Return the bytes of a weight file of a run."""
    return (Path(config.out) / name).read_bytes()
