"""Malformed inputs of the lifting files: each case writes the bad file and checks the one-sentence error or the stated fallback.

The numbers are those of the list of malformed inputs in the data specification.
"""
import pickle

import numpy as np
import pytest

from humanbody.data.h36m import read_2d, read_3d, read_h36m, split_clips
from humanbody.data.h36m_native import read_metadata, read_pose_cdf
from humanbody.data.lifting_store import h36m_store
from humanbody.data.mesh_pickles import read_mesh_pickle
from humanbody.data.motionbert import ClipFolder, read_amass_joints, read_d2c, write_clips
from humanbody.data.store import MotionStore
from humanbody.data.vehs import read_vehs
from humanbody.data.videopose3d import read_h36m_cameras, read_positions_3d, write_positions_3d
from humanbody.skeleton import get_skeleton

H36M = get_skeleton("h36m_17")


def split(frames=6, subject="s_01", camera="54138969", skeleton=H36M, seed=0):
    """One valid split of a source pickle."""
    rng = np.random.default_rng(seed)
    J = skeleton.num_joints
    return dict(joint_2d=rng.uniform(100, 900, (frames, J, 2)), confidence=np.ones((frames, J, 1)), joint3d_image=rng.uniform(100, 900, (frames, J, 3)),
                camera_name=np.array([camera] * frames), source=np.array([f"{subject}_act_02_subact_01_ca_01"] * frames))


def put(path, value):
    path.write_bytes(pickle.dumps(value))
    return path


def sentence(error, *words):
    """Check that an error is one line and holds the words: file, place, expected, found, fix."""
    text = str(error.value)
    assert "\n" not in text and len(text) < 700, text
    for w in ("expected", "found", *words): assert w in text, (w, text)


def marked(frames, name, seed=0):
    """Points of one VEHS version whose joint centres are the means of their markers."""
    from humanbody.data.vehs import _centres
    sk, rng = get_skeleton(name), np.random.default_rng(seed)
    x = np.repeat(rng.normal(500, 200, (1, sk.num_joints, 3)), frames, 0)
    for centre, markers in _centres().items(): x[:, sk.idx(centre)] = x[:, sk.indices(markers)].mean(1)
    x[:, sk.idx("C7_d")] = x[:, sk.idx("PELVIS")] - [0, 450, 0]
    return x


def test_case_15_confidence_zero_with_nan(tmp_path):
    """Stated fallback: a note, zeros with confidence 0 for the network, NaN kept in the store."""
    d = split()
    d["joint_2d"][2, 5], d["confidence"][2, 5] = np.nan, 0
    p = put(tmp_path / "a.pkl", dict(train=d))
    s = read_h36m(p)["train"]
    assert "1 points of confidence 0 have no x, y" in s.notes[0]
    assert (read_2d(s)[2, 5] == 0).all() and np.isfinite(read_2d(s)).all() and (read_2d(s)[2, 4] != 0).all()
    store = h36m_store(p, tmp_path / "store")
    assert np.isnan(store.array("kp2d/h36m_17")[2, 5, :2]).all() and store.array("kp2d/h36m_17")[2, 5, 2] == 0
    assert "have no x, y" in MotionStore(tmp_path / "store").meta["notes"][0]


def test_case_15_confidence_above_zero_with_nan(tmp_path):
    d = split()
    d["joint_2d"][2, 5] = np.nan
    p = put(tmp_path / "a.pkl", dict(train=d))
    with pytest.raises(ValueError) as e: read_h36m(p)
    sentence(e, "a.pkl", "frame 2, joint left_knee", "confidence 1", "set the confidence")


def test_case_53_source_changes_inside_a_clip(tmp_path):
    """No clip mixes two videos, and a name that comes back is a video of its own."""
    a, b, c = split(40, "s_01"), split(33, "s_05"), split(29, "s_01")
    d = {k: np.concatenate([v[k] for v in (a, b, c)]) for k in a}
    p = put(tmp_path / "a.pkl", dict(train=d))
    source = read_h36m(p)["train"].source
    run = np.cumsum(np.r_[False, source[1:] != source[:-1]])
    for mode in ("reference", "covering"):
        ids = split_clips(source, 27, 9, mode)
        assert (run[ids] == run[ids][:, :1]).all()
    store = h36m_store(p, tmp_path / "store")
    assert [len(m) for m in store.motions] == [40, 33, 29] and store.motions[2].id.endswith("#2")
    assert all(c[2].stop <= len(store.views[c[0]]) for c in store.clips(27, 9))


def test_case_53_video_shorter_than_a_clip(tmp_path):
    """Stated fallback: replayed in index clips, counted by the store, refused when only short ones are left or on request."""
    d = {k: np.concatenate([v[k] for v in (split(40, "s_01"), split(5, "s_05"), split(30, "s_06"))]) for k in split()}
    p = put(tmp_path / "a.pkl", dict(train=d))
    ids = split_clips(read_h36m(p)["train"].source, 27, 27)
    assert any((np.sort(np.unique(c)) == np.arange(40, 45)).all() for c in ids if len(np.unique(c)) == 5)
    store = h36m_store(p, tmp_path / "store")
    assert store.clips(27, 27).short == (1,)
    with pytest.raises(ValueError, match="1 of 3 views are shorter than one clip of 27 frames"): store.clips(27, 27, short="refuse")
    with pytest.raises(ValueError, match="3 of 3 views are shorter"): store.clips(99, 27)


def test_case_54_unknown_camera_name(tmp_path):
    d = split()
    d["camera_name"] = np.array(["54138969"] * 4 + ["12345678"] * 2)
    p = put(tmp_path / "a.pkl", dict(test=d))
    with pytest.raises(ValueError) as e: read_h36m(p)
    sentence(e, "a.pkl[test]", "frame 4", "12345678", "54138969", "resolution=")
    assert len(read_h36m(p, resolution=(1000, 1002))["test"]) == 6


def test_case_55_v1_loaded_as_v2(tmp_path):
    sk = get_skeleton("vehs_66_v1")
    d = split(5, "S02", skeleton=sk) | dict(joint3d_image=marked(5, "vehs_66_v1"))
    p = put(tmp_path / "VEHS_6D_downsample5_keep1.pkl", dict(train=d))
    with pytest.raises(ValueError) as e: read_vehs(p, "vehs_66")
    sentence(e, "VEHS_6D_downsample5_keep1.pkl[train]", "order of vehs_66", "skeleton='vehs_66_v1'")
    assert read_vehs(p)["train"].skeleton.name == "vehs_66_v1"
    listed = put(tmp_path / "b.pkl", dict(train=d, joints=list(get_skeleton("vehs_66").joints)))
    with pytest.raises(ValueError) as e: read_vehs(listed)
    sentence(e, "pass skeleton='vehs_66_v1'")


def test_case_55_bones_do_not_decide(tmp_path):
    sk = get_skeleton("vehs_66")
    p = put(tmp_path / "a.pkl", dict(train=split(5, "S02", skeleton=sk)))
    with pytest.raises(ValueError) as e: read_vehs(p)
    sentence(e, "a.pkl[train]", "misfits", "skeleton='vehs_66'")


def test_case_56_resolution_that_does_not_fit(tmp_path):
    d = split()
    d["joint_2d"] = d["joint_2d"] * 2
    p = put(tmp_path / "a.pkl", dict(train=d))
    with pytest.raises(ValueError) as e: read_h36m(p)
    sentence(e, "a.pkl[train]", "outside pictures of [1000, 1002] px", "x reaches", "resolution=")
    assert read_h36m(p, resolution=(2000, 2000))["train"].notes == ()


def test_case_56_a_few_points_outside(tmp_path):
    """Stated fallback: detections leave the picture now and then; a note says how many."""
    d = split()
    d["joint_2d"][0, :4] = 1700
    s = read_h36m(put(tmp_path / "a.pkl", dict(train=d)))["train"]
    assert "4% of the points lie outside" in s.notes[0] and np.isfinite(read_3d(s)).all()


BAD = [None, 3, [], {}, {"train": 1}, {"train": {}}, {"train": {"source": ["a"]}}, {1: {2: 3}}, [np.zeros(3)], np.zeros(4), "text",
       {"train": dict(split(), joint_2d=np.zeros((6, 5, 2)))}, {"train": dict(split(), source=np.array(["a"] * 3))},
       {"train": dict(split(), joint3d_image=[[1], [2, 3]])},
       {"train": dict(split(), confidence=np.ones((6, 3)))}, {"train": dict(split(), source=[None] * 6)},
       {"train": dict(split(), joint_2d=np.array(["a"] * 6))}]


@pytest.mark.parametrize("read", [read_h36m, read_vehs, read_mesh_pickle, read_amass_joints, read_d2c, read_h36m_cameras], ids=lambda f: f.__name__)
def test_values_of_the_wrong_kind(read, tmp_path):
    """A well-formed pickle of anything else is one sentence that names the file."""
    for i, value in enumerate(BAD):
        p = put(tmp_path / f"{i}.pkl", value)
        with pytest.raises(ValueError) as e: read(p)
        assert str(p) in str(e.value) and "\n" not in str(e.value), (i, str(e.value))


def test_files_of_another_kind(tmp_path):
    """An npz given as CDF, XML, clip, and the reverse."""
    p = write_positions_3d(tmp_path / "a.npz", {"S1": {"a": np.random.default_rng(0).normal(0, 0.4, (2, get_skeleton("h36m_32").num_joints, 3))}})
    for read in (read_pose_cdf, read_metadata, read_h36m, read_vehs, read_mesh_pickle):
        with pytest.raises(ValueError): read(p)
    write_clips(tmp_path / "clips", [(None, np.zeros((3, H36M.num_joints, 3)))])
    with pytest.raises(ValueError): read_positions_3d(tmp_path / "clips/00000000.pkl")
    (tmp_path / "clips/00000001.pkl").write_bytes(p.read_bytes())
    with pytest.raises(ValueError): ClipFolder(tmp_path / "clips")[1]


class Shell:
    def __init__(self, command): self.command = command

    def __reduce__(self):
        import os
        return os.system, (self.command,)


def test_nothing_is_executed(tmp_path):
    flag = tmp_path / "flag"
    bad = Shell(f"touch {flag}")
    put(tmp_path / "a.pkl", dict(train=dict(split(), source=bad)))
    np.savez(tmp_path / "a.npz", positions_3d=np.array(dict(S1=bad), object), metadata=np.array(bad, object))
    (tmp_path / "clips").mkdir()
    put(tmp_path / "clips/00000000.pkl", dict(data_input=bad, data_label=bad))
    for read in (read_h36m, read_vehs, read_mesh_pickle, read_amass_joints, read_d2c, read_h36m_cameras):
        with pytest.raises(ValueError, match="nothing was executed"): read(tmp_path / "a.pkl")
    with pytest.raises(ValueError, match="nothing was executed"): read_positions_3d(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="nothing was executed"): ClipFolder(tmp_path / "clips")[0]
    assert not flag.exists()


def test_fuzz_found_mesh_pickle_of_odd_values(tmp_path):
    d = split(2)
    d = {k: d[k] for k in ("joint_2d", "confidence", "source")} | dict(smpl_pose=np.zeros((2, 72)), smpl_shape=np.zeros((2, 10)))
    with pytest.raises(ValueError) as e: read_mesh_pickle(put(tmp_path / "a.pkl", dict(train=dict(d, source="s_01"))))
    sentence(e, "a.pkl[train]", "joint_2d (1,")
    with pytest.raises(ValueError) as e: read_mesh_pickle(put(tmp_path / "a.pkl", dict(train=dict(d, camera_name=np.zeros(2, [("a", "f4"), ("b", "i2")])))))
    sentence(e, "camera_name as text")


@pytest.mark.parametrize("value", [10**30, 10**400, True, "1", None, float("nan")])
def test_fuzz_found_d2c_of_odd_numbers(tmp_path, value):
    p = put(tmp_path / "d2c_params.pkl", dict(a=0.1, b=1.1, m=-0.1, s=value))
    if value == 10**30: assert read_d2c(p)["s"] == 1e30
    else:
        with pytest.raises(ValueError) as e: read_d2c(p)
        sentence(e, "d2c_params.pkl", "four finite numbers")


def test_fuzz_found_lcn_camera_of_records(tmp_path):
    from humanbody.data.lcn import read_lcn_cameras
    from humanbody.data.matfiles import save_hdf5
    d = dict(R=np.eye(3), T=np.zeros(3), f=np.ones(2), c=np.ones(2), k=np.zeros(3), p=np.zeros(2))
    for k, bad in (("R", np.array([b"x"] * 9)), ("T", np.array(["a", "b", "c"]))):
        p = save_hdf5(tmp_path / "cameras.h5", {f"subject1/camera1/{n}": x for n, x in (d | {k: bad}).items()})
        with pytest.raises(ValueError) as e: read_lcn_cameras(p)
        sentence(e, "cameras.h5", "numbers")
