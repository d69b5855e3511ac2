"""Bad input is refused in words that say what is wrong and how to mend it, and nothing is written."""
import contextlib
import errno
import os
import resource

import numpy as np
import pytest
import torch
from small_files import (BVH, five_joints, snapshot, unchanged, write_attacks, write_c3d, write_sequence,
                         write_weights)

from humanbody.body import load_body, load_regressor
from humanbody.camera import look_at
from humanbody.config import load_config
from humanbody.data.bvh import read_bvh
from humanbody.data.files import UnsafeFileError, load_npy, load_npz, load_pickle, load_torch, save_json, save_npz
from humanbody.data.marker_maps import read_mocap
from humanbody.data.mocap import gap_report, read_c3d
from humanbody.data.store import MotionStore
from humanbody.inference import lift, load_lifter
from humanbody.losses import PoseLoss
from humanbody.models.checkpoints import load_released, load_weights, save_weights
from humanbody.models.dstformer import DSTformer
from humanbody.models.lifters import MLPLifter, lifter_config
from humanbody.sequence import Keypoints2D, PoseSequence, load_sequence
from humanbody.skeleton import check_joints, flip, get_skeleton, load_skeleton
from humanbody.training import fit, main
from training_tools import make_store, tiny


def says(call, *words, error=ValueError):
    """The call raises one error whose message holds all the words."""
    with pytest.raises(error) as e: call()
    missing = [w for w in words if w not in str(e.value)]
    assert not missing, f"{missing} not in: {e.value}"
    return str(e.value)


@pytest.fixture
def still(tmp_path):
    """A folder of valid files that must stay as it is."""
    five_joints(tmp_path), write_sequence(tmp_path / "s.npz"), write_weights(tmp_path / "w.safetensors")
    make_store(tmp_path / "store")
    with unchanged(tmp_path): yield tmp_path


def points(T=3, J=None):
    J = J or get_skeleton("h36m_17").num_joints
    return np.random.default_rng(0).normal(size=(T, J, 3))


def test_unknown_skeleton(still):
    says(lambda: get_skeleton("h36m17"), "unknown skeleton 'h36m17'", "did you mean", "h36m_17", ".json")
    says(lambda: PoseSequence(points(), "h36m-17", 50.0), "unknown skeleton", "did you mean")
    says(lambda: load_skeleton(still / "no.json"), "no such skeleton file", "joints", error=FileNotFoundError)
    says(lambda: MotionStore(still / "store").sequence(0, "rtm_24"), "no array", "rtm_24", "joints/h36m_17")
    says(lambda: fit(tiny(still, "out", skeleton="h36m_71"), progress=False), "unknown skeleton", "h36m_17")
    says(lambda: fit(tiny(still, "out", skeleton="rtm_24"), progress=False), "kp2d/rtm_24", "kp2d/h36m_17")


def test_wrong_joint_count(still):
    x = points(J=16)
    says(lambda: PoseSequence(x, "h36m_17", 50.0), "expected 17 joints of skeleton h36m_17", "(3, 16, 3)")
    says(lambda: flip(points(J=24), get_skeleton("h36m_17")), "expected 17 joints", "rtm_24")
    says(lambda: check_joints(x, get_skeleton("vehs_66")), "expected 66 joints of skeleton vehs_66")
    pred = torch.zeros(1, 4, 16, 3)
    says(lambda: PoseLoss(get_skeleton("h36m_17"))(pred, pred), "expected 17 joints")
    model = DSTformer(17, dim_feat=16, dim_rep=16, depth=1, num_heads=2, maxlen=9)
    says(lambda: model(pred), "17", "16")
    says(lambda: MLPLifter(17)(torch.zeros(2, 1, 16, 3), torch.zeros(2, 4)), "(B,1,17,3)", "(2, 1, 16, 3)")
    says(lambda: save_weights(model, still / "x.safetensors", "rtm_24"), "skeleton of 17 joints", "rtm_24 with 24")


def test_nan_keypoints_with_confidence(still):
    kp, conf = points()[..., :2], np.ones((3, 17))
    kp[1, 4] = np.nan
    words = says(lambda: Keypoints2D(kp, "h36m_17", (640, 480), 50.0, conf), "1 missing points have confidence above 0",
                 "at frame 1", "set their confidence to 0")
    assert get_skeleton("h36m_17").joints[4] in words
    conf[1, 4] = 0
    assert len(Keypoints2D(kp, "h36m_17", (640, 480), 50.0, conf)) == 3

    def write(confidence):
        with MotionStore.create(still / "new") as w:
            w.add_motion("m", {"joints/h36m_17": points()}, "S1")
            w.add_view("m", {"size": [640, 480]}, {"kp2d/h36m_17": np.concatenate([kp, confidence[..., None]], -1)})

    says(lambda: write(np.ones((3, 17))), "motion m", "frame 1, joint 4", "confidence")


def test_sequence_shorter_than_a_clip(still):
    store = MotionStore(still / "store")
    says(lambda: store.clips(243, 81), "views are shorter than one clip of 243 frames", "motion m0) with 60 frames", "shorten the clip")
    says(lambda: store.clips(55, 5, short="refuse"), "4 of 6 views are shorter", "view 2 (motion m1) with 50 frames", "short='count'")
    says(lambda: fit(tiny(still, "out", clip_length=81), progress=False), "shorter than one clip of 81 frames")
    assert len(store.clips(55, 5).short) == 4  # counted, not hidden


def test_c3d_with_gaps_and_prefixed_labels(tmp_path):
    pytest.importorskip("ezc3d")
    mm = np.random.default_rng(0).uniform(100, 1500, size=(20, 3, 3))
    mm[5:8, 1] = np.nan
    path = write_c3d(tmp_path / "a.c3d", mm, ["Anna:LSHO", "Anna:RSHO", "Anna:C7"])
    with unchanged(tmp_path):
        d = read_c3d(path, up="z")
        assert d.names == ("LSHO", "RSHO", "C7") and any("prefix removed: Anna" in n for n in d.notes)
        gap = gap_report(d)[1]
        assert (gap["name"], gap["missing"], gap["gaps"], gap["longest"]) == ("RSHO", 3, 1, 3)
        assert np.isnan(d.points[5:8, 1]).all() and np.isfinite(np.delete(d.points, [5, 6, 7], 0)).all()
        says(lambda: d.at("LHIP"), "no point 'LHIP'", "LSHO, RSHO, C7")
    raw = path.read_bytes()
    (tmp_path / "cut.c3d").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "text.c3d").write_text("x" * 600)
    with unchanged(tmp_path):
        says(lambda: read_c3d(tmp_path / "cut.c3d"), "truncated C3D", "copy")
        says(lambda: read_c3d(tmp_path / "text.c3d"), "not a C3D file")
        says(lambda: read_c3d(tmp_path / "none.c3d"), "no such C3D file", error=FileNotFoundError)
        says(lambda: read_mocap(tmp_path / "a.mp4"), ".c3d, .trc or .bvh", ".mp4")


def test_bvh_with_ragged_rows(tmp_path):
    def variant(name, old, new):
        (tmp_path / name).write_text(BVH.replace(old, new))
        return tmp_path / name

    short = variant("short.bvh", "0 91 0 1 2 3 4 5 6", "0 91 0 1 2 3 4 5")
    word = variant("word.bvh", "0 91 0 1", "0 91 zero 1")
    frames = variant("frames.bvh", "Frames: 3", "Frames: 7")
    good = variant("good.bvh", "", "")
    with unchanged(tmp_path):
        says(lambda: read_bvh(short, units="cm"), "short.bvh", "line 20", "9", "8")
        says(lambda: read_bvh(word, units="cm"), "word.bvh", "line 20", "zero")
        says(lambda: read_bvh(good), "states no unit", "units=")
        d = read_bvh(frames, units="cm")
        assert len(d.points) == 3 and any("states 7 frames, the file has 3 rows" in n for n in d.notes)


def test_regressor_of_another_body(tmp_path):
    body, sk = load_body(), get_skeleton("h36m_17")
    matrix = np.zeros((sk.num_joints, body.num_vertices), np.float32)
    matrix[:, 0] = 1
    np.savez(tmp_path / "other.npz", J_regressor=matrix, topology_id=np.array("0123456789abcdef"))
    np.save(tmp_path / "silent.npy", matrix)
    np.save(tmp_path / "small.npy", matrix[:, :100])
    with unchanged(tmp_path):
        other = load_regressor(tmp_path / "other.npz", sk.name)
        says(lambda: body.joints(skeleton=other), "topology 0123456789abcdef", body.topology_id, "do not carry over")
        says(lambda: load_regressor(tmp_path / "other.npz", sk.name, body.topology_id), "made for topology 0123456789abcdef")
        says(lambda: load_regressor(tmp_path / "silent.npy", sk.name), "does not say which mesh", "topology_id=")
        says(lambda: load_regressor(tmp_path / "silent.npy", "rtm_24", body.topology_id), "24 rows for skeleton rtm_24", "(17, 6890)")
        small = load_regressor(tmp_path / "small.npy", sk.name, body.topology_id)
        says(lambda: small(body().vertices), "(...,100,3)", str(body.num_vertices))


def test_unknown_config_key(still, capsys):
    says(lambda: load_config(dict(learning_rate=1e-3)), "unknown key 'learning_rate'", "known keys", "lr")
    says(lambda: load_config(dict(weigth_decay=0.1)), "did you mean weight_decay")
    says(lambda: load_config({}, batchsize=3), "did you mean batch_size")
    says(lambda: load_config(dict(lr="fast")), "lr", "fast")
    says(lambda: load_config(still / "no.yaml"), "no such configuration file", error=FileNotFoundError)
    assert main([str(still / "no.yaml")]) != 0 and "no such configuration file" in capsys.readouterr().err


def test_checkpoint_of_another_skeleton(still):
    path = still / "w.safetensors"
    says(lambda: load_weights(path, skeleton="rtm_24"), "for skeleton h36m_17 (17 joints), asked for rtm_24 (24 joints)", "convert")
    says(lambda: load_lifter(path, "vehs_66"), "reads skeleton h36m_17, asked for vehs_66")
    says(lambda: load_weights(path, MLPLifter(17)), "do not fit the model")
    says(lambda: load_weights(path, body="0123456789abcdef"), "body of topology", "0123456789abcdef")
    says(lambda: load_weights(still / "s.npz"), "expected a safetensors file")
    kp = Keypoints2D(np.full((2, 24, 2), 300.0), "rtm_24", (640, 480), 50.0, camera_model=look_at((0, 1, 4), (0, 1, 0), (0, 1, 0), 900, (640, 480)))
    says(lambda: lift(kp, load_lifter(path)), "keypoints are of skeleton rtm_24", "reads h36m_17")
    says(lambda: fit(tiny(still, "out", weights=str(path)), progress=False), "fit")


def test_pickle_that_calls_os_system(tmp_path):
    flag = tmp_path / "executed"
    write_attacks(tmp_path, flag)
    readers = {"a.pkl": [load_pickle, load_body], "a.pt": [load_torch, lambda p: load_released(torch.nn.Linear(1, 1), p)],
               "a.npz": [load_npz, load_sequence], "a.npy": [load_npy]}
    with unchanged(tmp_path):
        for name, calls in readers.items():
            for call in calls:
                words = says(lambda: call(tmp_path / name), name, "system", "nothing was executed", error=UnsafeFileError)
                assert "\n" not in words
    assert not flag.exists()


@contextlib.contextmanager
def full_disk(kind, monkeypatch, room=2048):
    """Let writes fail: a limit on the size of files (needs no rights), or a disk that refuses to flush."""
    with monkeypatch.context() as m:
        if kind == "flush":
            def refuse(fd): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            m.setattr(os, "fsync", refuse)
            yield
            return
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, old[1]))
        try: yield
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("kind", ["limit", "flush"])
def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch, kind):
    model = MLPLifter(17, width=32, depth=1)
    path, noise = tmp_path / "w.safetensors", np.random.default_rng(0).normal(size=5000)
    save_weights(model, path, "h36m_17", lifter_config(model))
    save_npz(tmp_path / "a.npz", x=noise), save_json(tmp_path / "a.json", dict(x=1))
    with torch.no_grad(): model.head.bias += 1
    sequence = PoseSequence(points(100), "h36m_17", 50.0)
    jobs = [lambda: save_weights(model, path, "h36m_17", lifter_config(model)), lambda: save_npz(tmp_path / "a.npz", x=-noise),
            lambda: save_json(tmp_path / "a.json", dict(x=list(range(2000))))]
    with unchanged(tmp_path):
        for job in jobs:
            with full_disk(kind, monkeypatch): says(job, "could not write", "the old file is unchanged", "free space", error=OSError)
        with full_disk(kind, monkeypatch): says(lambda: sequence.save(tmp_path / "new.npz"), "nothing was written", error=OSError)
    assert load_weights(path, MLPLifter(17, width=32, depth=1)).skeleton == "h36m_17"


@pytest.mark.parametrize("kind", ["limit", "flush"])
def test_full_disk_leaves_no_half_store(tmp_path, monkeypatch, kind):
    with full_disk(kind, monkeypatch, 4096), pytest.raises(OSError):
        make_store(tmp_path / "new")
    assert not list(snapshot(tmp_path))
