"""Readers of body-model results for the fuzz run: name -> (writer of a small valid file, reader)."""
import numpy as np
from fuzz_registry_images import spin_arrays

from humanbody.bodysources import read_body_motions
from humanbody.data.amass import AmassMotion
from humanbody.data.files import save_npz
from humanbody.data.results_files import write_results
from humanbody.data.smplx_results import PARTS, read_smplx, write_smplx
from humanbody.sequence import PoseSequence, save_sequence
from humanbody.skeleton import get_skeleton

J = get_skeleton("smpl_24").num_joints


def _smplx(ending):
    def write(path):
        motion = AmassMotion(np.full((2, 3 * sum(PARTS.values())), 0.1), 30.0, np.zeros(10), np.zeros((2, 3)), None, "male")
        return write_smplx(motion, path.with_suffix(ending))
    return write


def _sequence():
    return PoseSequence(np.zeros((2, J, 3)), "smpl_24", 30.0, "camera", body=dict(pose=np.zeros((2, J, 3)), betas=np.zeros(10), gender="male"), subject="1")


def _saved(path):
    path = path.with_suffix(".npz")
    save_sequence(_sequence(), path)
    return path


READERS = {
    "read_smplx, npz": (_smplx(".npz"), read_smplx),
    "read_smplx, pickle": (_smplx(".pkl"), read_smplx),
    "read_smplx, json": (_smplx(".json"), read_smplx),
    "read_body_motions, pickle": (_smplx(".pkl"), read_body_motions),
    "read_body_motions, sequence": (_saved, read_body_motions),
    "read_body_motions, results": (lambda path: write_results([_sequence()], path.with_suffix(".npz")), read_body_motions),
    "read_body_motions, spin": (lambda path: save_npz(path.with_suffix(".npz"), **spin_arrays()), read_body_motions),
}
