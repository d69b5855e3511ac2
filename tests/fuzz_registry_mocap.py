"""Readers of motion capture and body-parameter files for the fuzz run: name -> (writer of a small valid file, reader)."""
import pickle

import numpy as np
from small_files import BVH
from test_malformed_mocap import AMC, ASF

from humanbody.data.amass import AmassMotion, MoshPoses, load_amass, read_amass, read_mosh, write_amass, write_mosh
from humanbody.data.amc import parse_asf, read_amc
from humanbody.data.bvh import read_bvh
from humanbody.data.mocap import MarkerData, check_c3d_header, read_c3d, read_trc
from humanbody.data.mocap_writers import write_c3d, write_trc
from humanbody.data.opensim_files import read_opensim
from humanbody.data.pw3d import Pw3dSequence, load_pw3d, write_pw3d
from humanbody.data.results_files import read_results
from humanbody.skeleton import get_skeleton

J = get_skeleton("smpl_24").num_joints
MOT = "Coordinates\nversion=1\nnRows=2\nnColumns=3\ninDegrees=yes\n\nendheader\ntime\tpelvis_tx\tknee_angle_r\n0.0\t1.5\t90\n0.01\t1.6\t45\n"


def _text(content):
    def write(path):
        path.write_text(content)
        return path
    return write


def _markers():
    points = np.random.default_rng(0).uniform(-1, 2, size=(4, 3, 3))
    points[1, 1] = np.nan
    return MarkerData(points, ("A", "B", "C"), 100.0, (0, 0, 1))


def _amass(path):
    path = path.with_suffix(".npz")
    return write_amass(AmassMotion(np.zeros((2, 3 * J)), 60.0, np.zeros(10), np.zeros((2, 3)), None, "male"), path)


def _mosh(path):
    return write_mosh(MoshPoses(np.zeros((2, J, 3)), np.zeros((2, 10))), path.with_suffix(".npz"))


def _neutr_mosh(path):
    path = path.with_suffix(".pkl")
    path.write_bytes(pickle.dumps(dict(poses=np.zeros((2, 3 * J)), betas=np.zeros(10)), 2))
    return path


def _results(path):
    path = path.with_suffix(".pkl")
    path.write_bytes(pickle.dumps({"1.jpg": dict(smpl_thetas=np.zeros((1, 3 * J)), smpl_betas=np.zeros((1, 10)), cam_trans=np.zeros((1, 3)), track_ids=np.ones(1))}, 2))
    return path


def _pw3d(path):
    eye, one = np.eye(4)[None], np.ones((1, 1))
    seq = Pw3dSequence("walk", np.zeros((1, 1, J, 3)), np.zeros((1, 10)), ("male",), np.zeros((1, 1, get_skeleton("openpose_18").num_joints, 3)), eye,
                       one > 0, np.eye(3), np.zeros((1, 1, 3)), np.zeros((1, 1, J, 3)), np.arange(1))
    return write_pw3d(seq, path.with_suffix(".pkl"))


def _amc(path):
    path.with_suffix(".asf").write_text(ASF)
    return _text(AMC)(path.with_suffix(".amc"))


READERS = {
    "parse_asf": (_text(ASF), parse_asf),
    "read_amc": (_amc, read_amc),
    "read_opensim": (_text(MOT), read_opensim),
    "read_bvh, every channel": (_text(BVH.replace("CHANNELS 3", "CHANNELS 6 Xposition Yposition Zposition").replace(" 4 5 6", " 0 20 0 4 5 6")),
                                lambda path: read_bvh(path, units="cm")),
    "read_trc, written": (lambda path: write_trc(_markers(), path), lambda path: read_trc(path, up="z")),
    "check_c3d_header, intel": (lambda path: write_c3d(_markers(), path), check_c3d_header),
    "check_c3d_header, big-endian": (lambda path: write_c3d(_markers(), path, processor=86), check_c3d_header),
    "read_c3d, intel": (lambda path: write_c3d(_markers(), path), lambda path: read_c3d(path, up="z")),
    "read_c3d, DEC": (lambda path: write_c3d(_markers(), path, processor=85), lambda path: read_c3d(path, up="z")),
    "read_c3d, big-endian": (lambda path: write_c3d(_markers(), path, processor=86), lambda path: read_c3d(path, up="z")),
    "load_amass": (_amass, load_amass),
    "read_amass": (_amass, read_amass),
    "read_mosh, npz": (_mosh, read_mosh),
    "read_mosh, pickle": (_neutr_mosh, read_mosh),
    "read_results": (_results, lambda path: read_results(path, 30.0)),
    "load_pw3d": (_pw3d, load_pw3d),
}
