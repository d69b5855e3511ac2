"""Small valid files of every format the workbook reads, and a snapshot of a folder, shared by the reader tests."""
import contextlib
import json
import pickle

import numpy as np
import torch

from humanbody.data.files import save_json, save_npz
from humanbody.models.checkpoints import save_weights
from humanbody.models.lifters import RidgeLifter, lifter_config
from humanbody.sequence import PoseSequence
from humanbody.skeleton import get_skeleton

FIVE = dict(name="five_points", joints=["hub", "left_tip", "right_tip", "top", "tail"], root="hub",
            left_right_pairs=[["left_tip", "right_tip"]],
            bones=[["hub", "left_tip"], ["hub", "right_tip"], ["hub", "top"], ["top", "tail"]])

BVH = """HIERARCHY
ROOT Hips
{
 OFFSET 0 0 0
 CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
 JOINT Chest
 {
  OFFSET 0 20 0
  CHANNELS 3 Zrotation Xrotation Yrotation
  End Site
  {
   OFFSET 0 15 0
  }
 }
}
MOTION
Frames: 3
Frame Time: 0.01
0 90 0 1 2 3 4 5 6
0 91 0 1 2 3 4 5 6
0 92 0 1 2 3 4 5 6
"""

TRC = ("PathFileType\t4\t(X/Y/Z)\ta.trc\nDataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\n100\t100\t2\t2\tmm\n"
       "Frame#\tTime\tA\t\t\tB\t\t\n\t\tX1\tY1\tZ1\tX2\tY2\tZ2\n1\t0.00\t1\t2\t3\t4\t5\t6\n2\t0.01\t1\t2\t3\t\t\t\n")


def five_joints(folder):
    """Write the invented joint set as one JSON file."""
    path = folder / "five_points.json"
    path.write_text(json.dumps(FIVE))
    return path


def snapshot(folder):
    """Return the name and bytes of everything below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@contextlib.contextmanager
def unchanged(folder):
    """Fail when anything below a folder was written, changed or removed."""
    before = snapshot(folder)
    yield
    after = snapshot(folder)
    odd = sorted(k for k in before.keys() | after.keys() if before.get(k, 0) != after.get(k, 0))
    assert not odd, f"written or changed: {odd}"


def write_c3d(path, points_mm, labels, fps=100.0):
    """Write markers (T,M,3) mm as C3D."""
    import ezc3d
    c = ezc3d.c3d()
    group = c["parameters"]["POINT"]
    group["RATE"]["value"], group["LABELS"]["value"], group["UNITS"]["value"] = [fps], list(labels), ["mm"]
    c["data"]["points"] = np.concatenate([points_mm.transpose(2, 1, 0), np.ones((1, *points_mm.shape[1::-1]))])
    c.write(str(path))
    return path


def write_pickle(path):
    """Write a nest of containers, arrays and a sparse matrix as a pickle."""
    import scipy.sparse
    value = dict(x=np.arange(12.0).reshape(3, 4), names=["a", "b"], n=3, flag=True, none=None, text="word",
                 matrix=scipy.sparse.csc_matrix(np.eye(3)), objects=np.array([1, "two", None], dtype=object))
    path.write_bytes(pickle.dumps(value, protocol=2))
    return path


def write_sequence(path):
    """Write a short PoseSequence."""
    x = np.random.default_rng(0).normal(size=(4, get_skeleton("h36m_17").num_joints, 3))
    PoseSequence(x, "h36m_17", 50.0, up=(0, 1, 0), confidence=np.ones(x.shape[:2]), subject="S1", info=dict(a=[1, 2])).save(path)
    return path


def write_weights(path, skeleton="h36m_17"):
    """Save a ridge lifter without training it."""
    model = RidgeLifter(get_skeleton(skeleton).num_joints)
    return save_weights(model, path, skeleton, lifter_config(model), card=dict(note="not trained"))


def write_npz(path):
    """Write arrays of several kinds."""
    return save_npz(path, a=np.arange(6.0).reshape(2, 3), b=np.array("text"), c=np.zeros((0, 3), np.int16))


def write_json(path):
    """Write a nest of JSON values."""
    return save_json(path, dict(a=[1, 2.5, None], b=dict(c="é", d=True), e=[]))


class Shell:
    """An object whose pickle calls os.system."""

    def __init__(self, command): self.command = command

    def __reduce__(self):
        import os
        return os.system, (self.command,)


def write_attacks(folder, flag):
    """Write the same attack as pickle, torch file, npz member and body file; each would make the file `flag`."""
    bad = Shell(f"touch {flag}")
    (folder / "a.pkl").write_bytes(pickle.dumps(dict(v_template=bad)))
    torch.save(dict(model=bad), folder / "a.pt")
    np.savez(folder / "a.npz", x=np.array([bad], dtype=object))
    np.save(folder / "a.npy", np.array([bad], dtype=object))
    return folder
