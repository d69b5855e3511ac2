"""Scores of whole trials: every fixture pose on 66 and 24 points, mirrored bodies, holes, text and JSON, standards on the same angles."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from humanbody.ergo.angles import joint_angles
from humanbody.ergo.score_inputs import measure, score_inputs, with_angles
from humanbody.ergo.score_tables import score_data
from humanbody.ergo.standards import en_1005_4, iso_11226, vehs_video_scores, vehs_zones
from humanbody.ergo.trial_scores import flag_effects, score, score_sequence, summary_text, why_not
from humanbody.sequence import PoseSequence
from humanbody.skeleton import flip, get_skeleton

POSES = json.loads((Path(__file__).parent / "fixtures/ergonomics/poses.json").read_text())["poses"]


def sequence(skeleton: str, noise_m: float = 0.0, copies: int = 1) -> PoseSequence:
    x = np.array([p["keypoints66" if skeleton == "vehs_66" else "keypoints24"] for p in POSES] * copies)
    x = x + np.random.default_rng(0).normal(0, noise_m, x.shape)
    return PoseSequence(x, get_skeleton(skeleton), fps=25, up=(0, 1, 0))


@pytest.mark.parametrize("skeleton", ["vehs_66", "rtm_24"])
def test_mirrored_body_swaps_the_sides(skeleton):
    seq = sequence(skeleton, 0.01, 5)
    a, b = score_sequence(seq, load_kg=8), score_sequence(PoseSequence(flip(seq.joints, seq.skeleton), seq.skeleton, fps=25, up=(0, 1, 0)), load_kg=8)
    for m in a:
        assert np.array_equal(a[m].worst, b[m].worst, equal_nan=True)
        for side, other in (("right", "left"), ("left", "right")) if m != "owas" else ():
            x, y = a[m].sides[side], b[m].sides[other]
            assert np.array_equal(x[x.total], y[y.total], equal_nan=True)
            for k in x.subscores:
                assert np.array_equal(x.subscores[k], y.subscores[k], equal_nan=True), (m, side, k)


def test_every_fixture_pose_scores_from_66_and_24_points():
    for skeleton in ("vehs_66", "rtm_24"):
        t = score_sequence(sequence(skeleton))
        for m in t:
            assert np.isfinite(t[m].worst).all(), (skeleton, m)


def test_undefined_scores_name_a_cause():
    seq = sequence("vehs_66", 0.005, 3)
    x, rng = seq.joints.copy(), np.random.default_rng(1)
    x[rng.random(x.shape[:2]) < 0.04] = np.nan
    t = score_sequence(PoseSequence(x, seq.skeleton, fps=25, up=(0, 1, 0)))
    undefined = 0
    for m, s in t.items():
        for side, r in s.sides.items():
            for i in np.flatnonzero(np.isnan(r[r.total])):
                text = why_not(t, m, i, side)
                assert "is undefined" in text and ("missing" in text or "undefined:" in text), text
                undefined += 1
    assert undefined > 50


def test_assumptions_and_effects_cover_what_no_camera_sees():
    x = score_inputs(sequence("vehs_66"), "reba", "left")
    names = {a["input"] for a in x.assumed()}
    assert {"sitting", "unilateral_or_unstable", "load_score", "coupling_score", "activity_score"} <= names
    rows = flag_effects(x)
    assert {r["input"] for r in rows} == names and all(r["frames"] == len(POSES) for r in rows)
    activity = next(r for r in rows if r["input"] == "activity_score" and r["if_it_were"] == 3)
    assert activity["score_changes"] == len(POSES) and activity["largest_rise"] == 3
    json.dumps(rows)


def test_draws_of_angles_equal_one_by_one():
    m = measure(sequence("vehs_66"))
    drawn = {k: v + np.random.default_rng(3).normal(0, 4, (5, 1)) for k, v in m.angles.items()}
    for method, total in (("rula", "grand"), ("reba", "reba"), ("owas", "category")):
        wide = score(score_inputs(with_angles(m, drawn), method))[total]
        one = [score(score_inputs(with_angles(m, {k: v[i] for k, v in drawn.items()}), method))[total] for i in range(5)]
        assert np.array_equal(wide, one, equal_nan=True)


def test_only_angles_no_points():
    seq = sequence("vehs_66")
    t, full = score_sequence(joint_angles(seq)), score_sequence(seq)
    assert "arm_across_midline_or_out" in {a["input"] for a in t["rula"].assumed}
    assert (t["reba"].worst == full["reba"].worst).all()
    assert summary_text(t).count("Assumed for") == 3


def test_standards_on_joint_angles():
    angles = joint_angles(sequence("vehs_66"))
    iso, en, zones = iso_11226(angles), en_1005_4(angles), vehs_zones(angles)
    assert set(iso) == {"trunk", "head", "neck", "right_upper_arm", "left_upper_arm", "trunk_symmetry"} and not iso.notes
    assert all((iso[k] == 1).any() and z.shape == (len(POSES),) for k, z in iso.items())
    assert iso["trunk"][0] == 1 and en["trunk_forward_backward"][0] == 1 and (en_1005_4(angles, 5)["right_upper_arm"] >= en_1005_4(angles, 1)["right_upper_arm"]).all()
    scores = vehs_video_scores(zones, 25)
    assert {"neck", "back_flexion", "right_wrist", "left_knee"} <= set(scores) and all(0 <= s["duration"] <= 3 for s in scores.values() if s["defined"])


def test_every_method_states_how_far_it_is_verified():
    status = {k: r["verification"]["status"] for k, r in score_data()["methods"].items()}
    assert status == dict(rula="verified", reba="verified", owas="verified", niosh="verified", strain_index="partly", revised_strain_index="unverified",
                          iso_11226="unverified", en_1005_4="partly", vehs_zones="partly")
