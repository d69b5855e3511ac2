"""Joint angles: properties on 17, 24 and 66 points, singularities crossed slowly, bad input in one clear sentence each."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from small_files import five_joints

from humanbody.ergo.angle_results import ANGLES_MAIN, angle_keys, reason_texts
from humanbody.ergo.angle_tensors import AngleLoss, tensor_angles
from humanbody.ergo.angles import angles_from_points, joint_angles
from humanbody.ergo.input_checks import check_names, check_seen
from humanbody.ergo.up import with_up
from humanbody.sequence import PoseSequence
from humanbody.signals import clean_sequence
from humanbody.skeleton import flip, get_skeleton

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "ergonomics" / "poses.json").read_text())
ODD = ("lateral_right", "rotation_left", "twist_left", "drop_right", "lateral_gravity_right", "lateral_right_proj", "rotation_left_proj", "root_yaw")
UP = np.array([0, 1.0, 0])


@pytest.fixture(params=["h36m_17", "rtm_24", "vehs_66"])
def seq(request):
    """Noisy constructed poses of each joint set; the 17 points are named from the 66."""
    sk, rng = get_skeleton(request.param), np.random.default_rng(1)
    x66, x24 = (np.array([p[k] for p in FIXTURE["poses"]]) for k in ("keypoints66", "keypoints24"))
    if sk.name == "vehs_66": x = x66
    elif sk.name == "rtm_24": x = x24
    else:
        at = {n: x66[:, i] for i, n in enumerate(FIXTURE["meta"]["order66"])}
        mid = lambda *n: sum(at[k] for k in n) / len(n)
        special = dict(root=mid("RHIP", "LHIP"), spine=mid("T8", "XP"), neck=mid("RSHOULDER", "LSHOULDER"), neck_base=at["HEAD"], head=at["HDTP"],
                       thorax=at["THORAX"])
        x = np.stack([special[n] if n in special else at[("R" if n.startswith("right") else "L") + n.split("_")[1].upper()] for n in sk.joints], 1)
    return PoseSequence(x + rng.normal(0, .01, x.shape), sk, 50.0, up=UP)


def same(a, b, but=(), eps=1e-6):
    """Equal angles, wrapped, with equal holes."""
    assert set(a) == set(b)
    for n in a:
        if n in but: continue
        assert (np.isnan(a[n]) == np.isnan(b[n])).all(), n
        d = (a[n] - b[n] + 180) % 360 - 180
        assert np.nanmax(np.abs(d), initial=0) < eps, n


def test_mirror(seq):
    """The mirrored body (x negated, names exchanged) exchanges left and right exactly."""
    a, m = joint_angles(seq), joint_angles(replace(seq, joints=flip(seq.joints, seq.skeleton)))
    for n in a:
        limb = n.startswith(("right_", "left_"))
        other = n.replace("right_", "#", 1).replace("left_", "right_", 1).replace("#", "left_", 1) if limb else n
        if n == "root_yaw": continue
        d = (m[other] - (-1 if not limb and n.endswith(ODD) else 1) * a[n] + 180) % 360 - 180
        assert (np.isnan(m[other]) == np.isnan(a[n])).all() and np.nanmax(np.abs(d), initial=0) < 1e-9, n


def test_invariance(seq):
    """Turning about up, moving, scaling and turning everything with up change nothing but the heading."""
    a, move = joint_angles(seq), lambda f, up=UP: joint_angles(replace(seq, joints=f(seq.joints), up=up))
    same(a, move(lambda x: Rotation.from_rotvec([0, 2.0, 0]).apply(x.reshape(-1, 3)).reshape(x.shape)), but=("root_yaw",))
    same(a, move(lambda x: 1.9 * x + [3, -2, 7]))
    turn = Rotation.random(random_state=4)
    same(a, move(lambda x: turn.apply(x.reshape(-1, 3)).reshape(x.shape), turn.apply(UP)), but=("root_yaw",))


def test_tensors_and_gradients(seq):
    """Tensor angles equal the numpy ones and have finite gradients everywhere."""
    x = torch.tensor(seq.joints, requires_grad=True)
    t, a = tensor_angles(x, seq.skeleton, UP), joint_angles(seq)
    assert set(t) == set(a.available)
    for n in t:
        d = (t[n].detach().numpy() - a[n] + 180) % 360 - 180
        assert (np.isnan(d) == np.isnan(a[n])).all() and np.nanmax(np.abs(d), initial=0) < 1e-9, n
    AngleLoss(seq.skeleton)(x, x.detach() + .01, UP).backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().max() > 0


def crossing(name, start, stop, steps=721):
    """The neutral pose with one joint turned slowly about an axis of the world, right side."""
    neutral = np.array(FIXTURE["poses"][0]["keypoints66"])
    at = {n: i for i, n in enumerate(FIXTURE["meta"]["order66"])}
    joints = np.repeat(neutral[None], steps, 0)
    pivot, axis, moved = name
    rows = [at[m] for m in moved]
    turns = Rotation.from_rotvec(np.linspace(np.radians(start), np.radians(stop), steps)[:, None] * np.asarray(axis, float))
    for t, r in enumerate(turns): joints[t, rows] = r.apply(neutral[rows] - neutral[at[pivot]]) + neutral[at[pivot]]
    return PoseSequence(joints, "vehs_66", 50.0, up=UP)


ARM = ["RELBOW", "RLE", "RME", "RWRIST", "RRS", "RUS", "RHAND", "RMCP2", "RMCP5"]
LEG = ["RKNEE", "RLFC", "RMFC", "RANKLE", "RLM", "RMM", "RFOOT", "RMTP1", "RMTP5", "RHEEL"]
HEAD = ["HEAD", "HDTP", "REAR", "LEAR", "MDFH"]
HAND = ["RHAND", "RMCP2", "RMCP5"]
TRUNK = [n for n in FIXTURE["meta"]["order66"] if n not in LEG and n[1:] not in [m[1:] for m in LEG]]


@pytest.mark.parametrize("joint,axis,moved", [("RSHOULDER", a, ARM) for a in ((1, 0, 0), (0, 0, 1), (.6, 0, .8))] + [("RHIP", a, LEG) for a in ((1, 0, 0), (0, 0, 1))]
                         + [("C7", a, HEAD) for a in np.eye(3)] + [("RWRIST", a, HAND) for a in np.eye(3)] + [("PELVIS", a, TRUNK) for a in np.eye(3)])
def test_no_jumps(joint, axis, moved):
    """A joint turned through a full circle in steps of half a degree: no angle moves more than 3.5 degrees in a step (wraps aside); holes have reasons."""
    a = joint_angles(crossing((joint, axis, moved), -180, 180), check=False)
    for n in a:
        step = np.abs((np.diff(a[n]) + 180) % 360 - 180)
        assert np.nanmax(step, initial=0) < 3.5, f"{n} jumps by {np.nanmax(step):.1f} degrees"
        assert set(a.reasons[n][np.isnan(a[n])]) <= set(reason_texts()[1:]), n


def test_five_joints(tmp_path):
    """An invented skeleton: nothing is invented for it, and the check says what to do."""
    sk = get_skeleton(five_joints(tmp_path))
    a = joint_angles(PoseSequence(np.random.default_rng(0).normal(size=(4, sk.num_joints, 3)), sk, 50.0, up=UP))
    assert a.available == () and all(np.isnan(v).all() for v in a.values())
    with pytest.raises(ValueError, match="expected anatomical point names .* rename the points"): check_names(sk.joints)
    with pytest.raises(ValueError, match="see availability"): AngleLoss(sk)(torch.zeros(2, sk.num_joints, 3), torch.zeros(2, sk.num_joints, 3), UP)


def test_bad_input(seq):
    """One sentence per mistake."""
    bare = replace(seq, up=None)
    with pytest.raises(ValueError, match="never guessed"): joint_angles(bare)
    with pytest.raises(ValueError, match="never assumed"): with_up(bare)
    with pytest.raises(ValueError, match="frames per second above 0"): replace(seq, fps=float("nan"))
    with pytest.raises(ValueError, match="direction"): replace(seq, up=(0, 0, 0))
    half = np.array(seq.joints)
    half[: len(half) * 2 // 3] = np.nan
    with pytest.raises(ValueError, match="missing more often"): check_seen({n: half[:, i] for i, n in enumerate(seq.skeleton.joints)}, 0.5)
    if seq.skeleton.name != "h36m_17":
        with pytest.raises(ValueError, match="left-handed"): joint_angles(replace(seq, joints=seq.joints * [1, 1, -1]))
    with pytest.raises(ValueError, match="expected \\(T,3\\)"): angles_from_points({"RHIP": np.zeros(3)}, UP)


def test_names_of_main_angles(seq):
    """Every joint set gives the trunk inclination, elbows and knees."""
    a = joint_angles(seq)
    for n in ("trunk_inclination", *angle_keys("elbow_flexion_included"), *angle_keys("knee_flexion_included")):
        assert n in a.available and np.isfinite(a[n]).all()
    assert all(k in a for n in ANGLES_MAIN for k in angle_keys(n))


def test_clean_sequence_keeps_long_gaps(seq):
    """Filtering works block by block: a long hole stays a hole and does not leak."""
    x = np.repeat(seq.joints[:1], 120, 0) + np.random.default_rng(0).normal(0, .001, (120, *seq.joints.shape[1:]))
    x[40:80, 2] = np.nan
    out, report = clean_sequence(replace(seq, joints=x, frames=None), cutoff=6.0)
    assert np.isnan(out.joints[45:75, 2]).all() and np.isfinite(out.joints[5:115, 3]).all() and report["gaps_left"] >= 1
