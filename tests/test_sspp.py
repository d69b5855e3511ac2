"""3DSSPP batch files: the parity text, invariances, joint sets, mocap and mesh input, and the reader of results on odd files."""
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from humanbody.body import load_body
from humanbody.ergo.sspp import HandLoad, SsppPerson, batch_text, loc_order, read_sspp_batch, sspp_points, sspp_tables, write_sspp
from humanbody.ergo.sspp_results import export_columns, read_sspp_export
from humanbody.sequence import PoseSequence
from humanbody.skeleton import flip, get_skeleton

FIXTURE = json.loads((Path(__file__).parent / "fixtures/ergonomics/sspp_batch.json").read_text())
POSES = json.loads((Path(__file__).parent / "fixtures/ergonomics/poses.json").read_text())["poses"]


def fixture_sequence(**changes):
    points = np.array([f["keypoints66_isb"] for f in FIXTURE["frames"]])
    return replace(PoseSequence(points, "vehs_66", 1.0, up=(0, 1, 0)), **changes)


def poses(key="keypoints66", skeleton="vehs_66"):
    return PoseSequence(np.array([p[key] for p in POSES]), skeleton, 30.0, up=(0, 1, 0))


def rotation(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def test_text_is_that_of_the_fixture():
    points = sspp_points(fixture_sequence())
    assert batch_text(points, SsppPerson(), HandLoad(50, 50)).splitlines() == FIXTURE["batch_text"]
    assert points.assumed == () and points.skipped == {}


@pytest.mark.parametrize("seed", range(4))
def test_any_world_frame_gives_the_same_points(seed):
    """Rotating and shifting the world, up included, changes only where the origin lies on the floor."""
    seq, R = poses(), rotation(seed)
    turned = replace(seq, joints=seq.joints @ R.T + [0.3, -2.0, 5.0], up=R @ seq.up)
    for heading in ("first", "each"):
        a, b = (sspp_points(s, heading).loc for s in (seq, turned))
        a, b = (x - x[:, :1] * [1, 1, 0] for x in (a, b))
        np.testing.assert_allclose(b, a, atol=1e-9)


def test_up_as_negative_axis():
    seq = poses()
    down = replace(seq, joints=seq.joints * [1, -1, -1], up=(0, -1, 0))  # a half turn about x, as camera axes are
    np.testing.assert_allclose(sspp_points(down).loc, sspp_points(seq).loc, atol=1e-9)


@pytest.mark.parametrize("key,skeleton", [("keypoints66", "vehs_66"), ("keypoints24", "rtm_24")])
def test_mirrored_body_gives_mirrored_points(key, skeleton):
    seq = poses(key, skeleton)
    sk = seq.skeleton
    mirrored = replace(seq, joints=flip(seq.joints[..., [2, 1, 0]], sk)[..., [2, 1, 0]])
    a, b = sspp_points(seq, "each").loc, sspp_points(mirrored, "each").loc
    swap = [loc_order().index(n.replace("left", "#").replace("right", "left").replace("#", "right")) for n in loc_order()]
    np.testing.assert_allclose(b[:, swap] * [-1, 1, 1], a, atol=1e-9)


def test_24_points_near_66_points_of_one_body():
    """Assumed offsets: over unseen subjects the 24-point batch lies within a stated distance of the 66-point batch."""
    from humanbody.data.plans import make_subject
    from humanbody.data.synthetic import generate_motion
    body, gaps = load_body("free"), []
    for number, task in ((11, "carry"), (12, "lift_floor_knuckle")):
        m = generate_motion(make_subject(5, number), task, 3.0, 10.0, number)
        args = [torch.as_tensor(np.array(np.broadcast_to(m["betas"], (len(m["pose"]), len(m["betas"]))))), torch.as_tensor(m["pose"]), torch.as_tensor(m["trans"])]
        sets = [PoseSequence(body.joints(*args, skeleton=n).double().numpy(), n, 10.0, up=(0, 1, 0)) for n in ("vehs_66", "rtm_24")]
        fine, rough = (sspp_points(s, "each") for s in sets)
        gaps.append(np.linalg.norm(fine.loc - rough.loc, axis=-1))
    gaps = np.concatenate(gaps)
    by_point = dict(zip(loc_order(), gaps.mean(0)))
    assert len(rough.assumed) == 14 and len(fine.assumed) == 0
    assert gaps.mean() < 0.020 and max(by_point.values()) < 0.06
    assert max(by_point[n] for n in ("left_wrist", "right_knee", "left_elbow", "right_hand")) < 0.02  # floor height only


@pytest.mark.parametrize("skeleton", ["vehs_66", "vehs_66_v1", "rtm_24", "rtm_37"])
def test_joint_sets_with_hands_are_taken(skeleton):
    sk = get_skeleton(skeleton)
    if skeleton == "vehs_66_v1":
        have = get_skeleton("vehs_66")
        x = np.stack([poses().joints[:, have.idx(n)] if have.has(n) else np.full((len(POSES), 3), np.nan) for n in sk.joints], 1)
        seq = PoseSequence(x, sk, 30.0, up=(0, 1, 0))
    elif skeleton == "rtm_37":
        seq = PoseSequence(poses().joints[:, get_skeleton("vehs_66").indices(sk.joints)], sk, 30.0, up=(0, 1, 0))
    else:
        seq = poses(*(("keypoints66", "vehs_66") if skeleton == "vehs_66" else ("keypoints24", "rtm_24")))
    points = sspp_points(seq)
    assert points.loc.shape == (len(POSES), len(loc_order()), 3)
    assert (len(points.assumed) > 0) == (skeleton not in ("vehs_66", "vehs_66_v1"))


@pytest.mark.parametrize("skeleton", ["h36m_17", "coco_17", "smpl_24", "hand_21"])
def test_joint_sets_without_hands_are_refused(skeleton):
    sk = get_skeleton(skeleton)
    x = np.random.default_rng(0).normal(size=(3, sk.num_joints, 3))
    with pytest.raises(ValueError, match="convert to vehs_66|which way the hips face"):
        sspp_points(PoseSequence(x, sk, 30.0, up=(0, 1, 0)))


def test_plug_in_gait_markers():
    """Mapped mocap markers lack some of the 47; what stands in is said, or the missing hands are named."""
    from humanbody.data.marker_maps import get_map, map_points
    from humanbody.data.mocap import MarkerData
    m = get_map("cmu_41->vehs_66")
    sk = get_skeleton("vehs_66")
    names = tuple(dict.fromkeys(s for v in m.points.values() for s in v))
    where = {s: poses().joints[:, sk.idx(t)] for t, v in m.points.items() for s in v}
    seq = map_points(MarkerData(np.stack([where[n] for n in names], 1), names, 30.0, (0.0, 1.0, 0.0)), m)
    try:
        points = sspp_points(seq)
        assert np.isfinite(points.loc).all() and points.assumed
    except ValueError as e:
        assert "needed:" in str(e) and "\n" not in str(e)


def test_one_foot_up():
    one = [p["name"] for p in POSES].index("single_leg_raise")
    assert sspp_points(poses()).feet[one] in (0, 1, 2)
    seq = fixture_sequence()
    x = seq.joints.copy()
    raised = seq.skeleton.indices(["RANKLE", "RFOOT", "RHEEL", "RMM", "RLM", "RMTP1", "RMTP5"])
    x[:, raised, 1] += 0.9
    assert list(sspp_points(replace(seq, joints=x)).feet) == [1, 1]  # the left foot carries
    assert "SUP 1 0 0 0 20.0 0 #" in batch_text(sspp_points(replace(seq, joints=x)))


def test_records_of_every_frame(tmp_path):
    points = write_sspp(poses(), tmp_path / "a.txt", load=HandLoad(np.arange(len(POSES)), 5.5, -45, 30))
    records, loc = read_sspp_batch(tmp_path / "a.txt")
    np.testing.assert_allclose(loc, points.loc, atol=0.5001e-3)
    assert [r[1] for r in records if r[0] == "FRM"] == [[str(i)] for i in range(len(POSES))]
    assert [r[1] for r in records if r[0] == "HAN"][3] == ["3.0", "-45", "30", "5.5", "-45", "30"]
    raw = (tmp_path / "a.txt").read_bytes()
    assert raw.isascii() and b"-0.000" not in raw and raw.count(b"\r\n") == raw.count(b"\n")


def test_glued_head_and_long_names(tmp_path):
    (tmp_path / "b.txt").write_text('3DSSPPBATCHFILE#DES 1 "two words" "" "c" "d" # a remark\n')
    with pytest.raises(ValueError, match="not a 3DSSPP"):
        (tmp_path / "c.txt").write_text("hello # 3DSSPPBATCHFILE #")
        read_sspp_batch(tmp_path / "c.txt")
    records, loc = read_sspp_batch(tmp_path / "b.txt")
    assert records[1] == ("DES", ["1", "two words", "", "c", "d"]) and loc.shape == (0, len(loc_order()), 3)
    (tmp_path / "d.txt").write_text('3DSSPPBATCHFILE#DES 1 "open #')
    with pytest.raises(ValueError, match="quotation mark is open"):
        read_sspp_batch(tmp_path / "d.txt")


@pytest.mark.parametrize("text", ["", "\n\n", "a,b,c\n1,2,3\n", "\x00\x01\x02" * 50, "Analyst,Units,Summary Start,A,B,C,D,E,F\n1,2\n", ",".join(["1"] * 400) + "\n"])
def test_odd_export_files_are_refused(tmp_path, text):
    (tmp_path / "x.exp").write_text(text)
    with pytest.raises(ValueError) as e:
        read_sspp_export(tmp_path / "x.exp")
    assert "x.exp" in str(e.value) and "\n" not in str(e.value)


def test_export_with_some_groups_only(tmp_path):
    head = "Analyst,Units,Summary Start,L5/S1 Compression,Minimum Knee Percentile,Joint Forces Start,Left Hip X,Left Hip Y,Left Hip Z"
    rows = [f"me,Metric,summary,{1000 + i},{90 - i},forces,3,4,{12 * (i == 0)}" for i in range(3)]
    (tmp_path / "v7.txt").write_text("\n".join(f"{head}\n{r}" for r in rows))
    e = read_sspp_export(tmp_path / "v7.txt", [4, 5, 9])
    assert e.at("Summary", "L5/S1 Compression").tolist() == [1000, 1001, 1002] and e.frames.tolist() == [4, 5, 9]
    assert e.joints("Joint Forces")["Left Hip"].tolist() == [13, 5, 5]
    with pytest.raises(FileNotFoundError):
        read_sspp_export(tmp_path / "none.txt")


def test_asset_is_complete():
    t = sspp_tables()
    assert len(export_columns()) > 300 and set(t["export"]["columns"]) >= {"Summary", "Joint Forces", "Joint Moments"}
    assert set(t["export"]["compared"]) == {"percent capable", "low back", "forces", "moments"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sspp_points(poses())
