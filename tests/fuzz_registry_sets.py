"""Small valid files and readers of the native image sets, for the fuzz runs; also the people the tests of malformed sets start from."""
import pickle
import struct
import zlib

import numpy as np

from humanbody.camera import Camera
from humanbody.data.boxes import box_from_bbox
from humanbody.data.files import load_pickle
from humanbody.data.guesses import guess_joint_order, guess_pose_unit, guess_units, regressor_report
from humanbody.data.imagerows import ImageRows, keypoint_labels
from humanbody.data.sets_2d import read_coco, read_mpii, read_mpii_h5, read_mpii_json, write_coco, write_mpii, write_mpii_h5, write_mpii_json
from humanbody.data.sets_3d import read_3dhp_test, read_3dhp_train, read_calibration, write_3dhp_test, write_3dhp_train, write_calibration
from humanbody.data.sets_h36m import pw3d_rows, read_mosh_folder
from humanbody.data.sets_lsp import read_lsp, read_lspet, read_up3d, write_lsp, write_up3d
from humanbody.skeleton import get_skeleton

PLACES = dict(pelvis=(0, 0, 0), spine=(0, -0.2, 0), neck=(0, -0.5, 0), thorax=(0, -0.48, 0), head=(0, -0.6, 0), top=(0, -0.7, 0), clavicle=(0.05, -0.48, 0),
              shoulder=(0.18, -0.5, 0), elbow=(0.2, -0.2, 0.1), wrist=(0.2, 0, 0), hand=(0.2, 0.1, 0), hip=(0.1, 0, 0), knee=(0.1, 0.4, -0.1),
              ankle=(0.1, 0.8, 0), foot=(0.1, 0.85, -0.05), toe=(0.1, 0.86, -0.1))


def person(skeleton, n=1, seed=0):
    """Return joints (n,J,3) in metres of somebody who stands before the camera and faces it."""
    def place(name):
        name = name.lower().replace("root", "pelvis").replace("neck_base", "head").replace("top of head", "top")
        key = next((k for k in ("top", *PLACES) if k in name), "head")
        return np.array(PLACES[key]) * ([-1, 1, 1] if name.startswith("right") else [1, 1, 1])

    x = np.array([place(j) for j in get_skeleton(skeleton).joints])
    return x + np.random.default_rng(seed).normal(0, 0.003, (n, *x.shape)) + [0.2, 0.1, 4]


def pixels(joints):
    """Return the picture (n,J,2) of joints in front of a camera of 2048 px."""
    return joints[..., :2] / joints[..., 2:] * 1500 + 1024


def points(skeleton, n=2, seed=0):
    """Return 2D joints (n,J,3) that are all visible."""
    xy = pixels(person(skeleton, n, seed)).round(2)
    return np.concatenate([xy, np.ones((*xy.shape[:2], 1))], -1)


def mpii_rows(n=2):
    """Return MPII people."""
    return ImageRows("mpii", "train", [f"images/{k}.jpg" for k in range(n)], np.full((n, 2), 1000.0), np.full(n, 2.5), keypoint_labels(points("mpii_16", n), "mpii_16"))


def lsp_rows(n=3):
    """Return LSP people with the raw flag column."""
    return ImageRows("lsp", "train", [f"images/im{k:04d}.jpg" for k in range(n)], np.ones((n, 2)), np.ones(n), {"raw/lsp_14": points("lsp_14", n)})


def coco_rows(n=2):
    """Return COCO people."""
    bbox = np.tile([700.0, 300, 400, 900], (n, 1))
    names = [f"train2014/COCO_train2014_{k:012d}.jpg" for k in range(n)]
    return ImageRows("coco", "train", names, *box_from_bbox(bbox), dict(keypoint_labels(points("coco_17", n), "coco_17"), bbox=bbox))


def cameras(numbers=(0, 1)):
    """Return calibrated cameras of MPI-INF-3DHP."""
    return {k: Camera(np.array([[1500.5, 0, 1024], [0, 1498.25, 1030], [0, 0, 1]]), np.eye(3), np.array([0.1, 0.2, k]), (2048, 2048)) for k in numbers}


def training_video(frames=3):
    """Return 2D px and 3D metres (F,28,...) of one video."""
    joints = person("mpi_inf_3dhp_28", frames)
    return pixels(joints), joints


def sequence(frames=2, people=1, name="downtown_a_00"):
    """Return a 3DPW dictionary."""
    rng = np.random.default_rng(1)
    cam = np.tile(np.eye(4), (frames, 1, 1))
    xy = points("pw3d_18", frames)
    return dict(sequence=name, poses=[rng.normal(0, 0.3, (frames, 72)) for _ in range(people)], betas=[rng.normal(size=10) for _ in range(people)],
                poses2d=[xy.transpose(0, 2, 1) for _ in range(people)], cam_poses=cam, cam_intrinsics=np.diag([1900.0, 1900, 1]), genders=["m"] * people,
                campose_valid=[np.ones(frames, int) for _ in range(people)], jointPositions=[person("smpl_24", frames).reshape(frames, -1) for _ in range(people)])


def _pickle(path, value):
    path = path.with_suffix(".pkl")
    path.write_bytes(pickle.dumps(value, protocol=2))
    return path


def unpacked(path):
    """Write the arrays of a MATLAB file without compression, so that damage reaches what is inside."""
    data, at, out = path.read_bytes(), 128, [path.read_bytes()[:128]]
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        part = data[at + 8 : at + 8 + size]
        out.append(zlib.decompress(part) if kind == 15 else data[at : at + 8 + size])
        at += 8 + size
    path.write_bytes(b"".join(out))
    return path


def _array(x):
    def write(path):
        path = path.with_suffix(".npy")
        np.save(path, x)
        return path

    return write


def _load(read):
    """Read numbers from a damaged npy as the loader of files would hand them over."""
    from humanbody.data.files import load_npy
    return lambda path: read(load_npy(path))


def _up3d(path):
    """Write one picture of UP-3D in a folder of its own and return the folder."""
    root = path.with_name("up-3d")
    rows = ImageRows("up-3d", "train", ["00000_image.png"], np.ones((1, 2)), np.ones(1),
                     dict(keypoint_labels(points("lsp_14", 1), "lsp_14"), pose=np.zeros((1, 72)), betas=np.zeros((1, 10))))
    write_up3d(rows, root, {"00000": np.pad(np.zeros((8, 4, 3), np.uint8), ((4, 4), (4, 4), (0, 0)), constant_values=255)})
    return root


def _train(path):
    root = path.with_name("3dhp")
    write_3dhp_train(root, {("S1", "Seq1"): {0: training_video()}}, count=2)
    return unpacked(root / "S1" / "Seq1" / "annot.mat")


def _test(path):
    joints = person("mpi_inf_3dhp_17", 3)
    root = write_3dhp_test(path.with_name("test"), {"TS1": (pixels(joints), joints, [1, 0, 1])})
    return root / "TS1" / "annot_data.mat"


def _mosh(path):
    root = path.with_name("mosh")
    root.mkdir(exist_ok=True)
    return _pickle(root / "a.pkl", dict(poses=np.zeros((2, 72)), betas=np.zeros(10)))


READERS = {  # name -> (writer of a valid file, reader)
    "mpii json": (lambda p: write_mpii_json(mpii_rows(), p.with_suffix(".json")), lambda p: read_mpii_json(p, rule="any")),
    "mpii h5": (lambda p: write_mpii_h5(mpii_rows(), p.with_suffix(".h5")), lambda p: read_mpii_h5(p, rule="any")),
    "mpii mat": (lambda p: unpacked(write_mpii(mpii_rows(1), p.with_suffix(".mat"))), lambda p: read_mpii(p, rule="any")),
    "lsp mat": (lambda p: unpacked(write_lsp(lsp_rows(), p.with_suffix(".mat"))), read_lsp),
    "lspet mat": (lambda p: unpacked(write_lsp(lsp_rows(), p.with_suffix(".mat"), "14,3,N")), read_lspet),
    "coco json": (lambda p: write_coco(coco_rows(), p.with_suffix(".json")), read_coco),
    "up-3d list": (lambda p: _up3d(p) / "train.txt", lambda p: read_up3d(p.parent, "train")),
    "up-3d joints": (lambda p: _up3d(p) / "00000_joints.npy", lambda p: read_up3d(p.parent, "train")),
    "up-3d body": (lambda p: _up3d(p) / "00000_body.pkl", lambda p: read_up3d(p.parent, "train")),
    "up-3d rendering": (lambda p: _up3d(p) / "00000_render_light.png", lambda p: read_up3d(p.parent, "train")),
    "3dhp calibration": (lambda p: write_calibration(p.with_suffix(".calibration"), cameras()), read_calibration),
    "3dhp train": (_train, lambda p: read_3dhp_train(p.parents[2], videos=(0, 1), pictures=False)),
    "3dhp test": (_test, lambda p: read_3dhp_test(p.parents[1])),
    "3dpw sequence": (lambda p: _pickle(p, sequence()), lambda p: pw3d_rows(load_pickle(p))),
    "mosh folder": (_mosh, lambda p: read_mosh_folder(p.parent)),
    "guesses": (_array(person("h36m_17", 2)), _load(lambda x: (guess_units(x), guess_joint_order(x), guess_pose_unit(x)))),
    "regressor": (_array(np.eye(9, 40)), _load(regressor_report)),
}
