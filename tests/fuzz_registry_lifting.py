"""Small valid files and readers of the lifting formats, for the fuzz runs."""
import pickle

import numpy as np

from humanbody.camera import Camera
from humanbody.data.h36m import read_h36m
from humanbody.data.h36m_native import CAMERA_IDS, H36MMetadata, read_metadata, read_pose_cdf, write_metadata, write_pose_cdf
from humanbody.data.lcn import read_lcn, read_lcn_cameras, write_lcn, write_lcn_cameras
from humanbody.data.mesh_pickles import read_mesh_pickle
from humanbody.data.motionbert import (ClipFolder, read_amass_joints, read_d2c, read_insta, read_noise, write_amass_joints, write_clips, write_d2c,
                                       write_insta, write_noise)
from humanbody.data.vehs import read_vehs
from humanbody.data.videopose3d import h36m_record, read_h36m_cameras, read_positions_2d, read_positions_3d, write_positions_2d, write_positions_3d
from humanbody.skeleton import get_skeleton

J = get_skeleton("h36m_17").num_joints
_rng = lambda: np.random.default_rng(0)


def _put(path, value):
    path = path.with_suffix(".pkl")
    path.write_bytes(pickle.dumps(value, protocol=2))
    return path


def _split(frames=2, joints=J, **extra):
    rng = _rng()
    return dict(joint_2d=rng.uniform(100, 900, (frames, joints, 2)).astype("f4"), confidence=np.ones((frames, joints), "f4"), source=["s_01_act_02"] * frames,
                joint3d_image=rng.uniform(100, 900, (frames, joints, 3)).astype("f4"), camera_name=np.array(["54138969"] * frames), **extra)


def _camera():
    return Camera([[1145.0, 0, 512], [0, 1143, 515], [0, 0, 1]], np.diag([1.0, -1, -1]), [0, 0, 5],
                (1000, 1002), (-0.2, 0.24, -0.0014, -0.001, -0.003), "h36m", CAMERA_IDS[0])


def _vehs(path):
    sk = get_skeleton("vehs_66")
    return _put(path, dict(train=_split(1, sk.num_joints, c3d_frame=np.arange(1)), joints=list(sk.joints)))


def _mesh(path):
    d = _split()
    return _put(path, dict(train=dict({k: d[k] for k in ("joint_2d", "confidence", "source", "camera_name")},
                smpl_pose=np.zeros((2, 72)), smpl_shape=np.zeros((2, 10)))))


def _clip(path):
    write_clips(path.with_name(path.name + "_clips"), [(np.zeros((2, J, 3)), np.zeros((2, J, 3)))])
    return path.with_name(path.name + "_clips") / "00000000.pkl"


def _insta(path):
    return write_insta(path.parent, np.zeros((2, J, 3), "f4"), np.zeros(2)) / "motion_all.npy"


def _stand(frames=1): return _rng().normal(0, 0.4, (frames, get_skeleton("h36m_32").num_joints, 3))


def _metadata(path):
    return write_metadata(path.with_suffix(".xml"), H36MMetadata(("S1", "S9"), CAMERA_IDS, {("S1", 2, 1): "Directions 1"}, np.zeros(300)))


READERS = {
    "h36m_source": (lambda p: _put(p, dict(train=_split(), test=_split(**{"2.5d_factor": np.full(2, 4.2), "action": ["Walking"] * 2}))), read_h36m),
    "vehs_pickle": (_vehs, read_vehs),
    "mesh_pickle": (_mesh, read_mesh_pickle),
    "motionbert_clip": (_clip, lambda p: ClipFolder(p.parent)[0]),
    "amass_joints": (lambda p: write_amass_joints(p.with_suffix(".pkl"), [np.zeros((2, J, 3))]), read_amass_joints),
    "insta_npy": (_insta, lambda p: read_insta(p, p.with_name("id_all.npy"))),
    "d2c_params": (lambda p: write_d2c(p.with_suffix(".pkl"), dict(a=0.1, b=1.1, m=-0.1, s=0.2)), read_d2c),
    "noise_pth": (lambda p: write_noise(p.with_suffix(".pth"), dict(mean=np.zeros((J, 2), "f4"),
                std=np.ones((J, 2), "f4"), weight=np.ones(J, "f4"))), read_noise),
    "h36m_cameras": (lambda p: _put(p, {("S1", CAMERA_IDS[0]): h36m_record(_camera())}), read_h36m_cameras),
    "videopose3d_3d": (lambda p: write_positions_3d(p.with_suffix(".npz"), {"S1": {"Directions": _stand()}}), read_positions_3d),
    "videopose3d_2d": (lambda p: write_positions_2d(p.with_suffix(".npz"), {"S1": {"Directions": [np.zeros((1, J, 2))]}}), read_positions_2d),
    "h36m_cdf": (lambda p: write_pose_cdf(p.with_suffix(".cdf"), _stand()), read_pose_cdf),
    "h36m_metadata": (_metadata, read_metadata),
    "lcn_mat": (lambda p: write_lcn(p.parent, "s_01_act_02_subact_01_ca_01", _stand()) / "matlab_meta.mat", read_lcn),
    "lcn_cameras": (lambda p: write_lcn_cameras(p.with_suffix(".h5"), {("S1", CAMERA_IDS[0]): _camera()}), read_lcn_cameras),
}
