"""Error models, Monte Carlo of scores, calibration and exposure together: shipped files, mirror symmetry, plain loops as oracle, bad input."""
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import bench_montecarlo as made
from humanbody.data.files import file_fingerprint
from humanbody.ergo.angles import joint_angles
from humanbody.ergo.calibration import coverage_rows, inside, level_calibration
from humanbody.ergo.error_model import error_model_for, list_error_models, load_error_model, mirror_angles, sample_truth
from humanbody.ergo.exposure import exposure
from humanbody.ergo.montecarlo import draw_scores, draw_trial, summary_rows
from humanbody.ergo.score_inputs import measure, score_inputs
from humanbody.ergo.trial_scores import score
from humanbody.inference import list_lifters
from humanbody.sequence import PoseSequence
from humanbody.skeleton import flip, get_skeleton

POSES = json.loads((Path(__file__).parent / "fixtures" / "ergonomics" / "poses.json").read_text())["poses"]
ASSETS = Path(str(resources.files("humanbody"))) / "assets"


@pytest.fixture(scope="module")
def model():
    return made.error_model(people=6, frames=250)


@pytest.fixture(scope="module")
def clip():
    return made.recording(120, seed=3)


@pytest.mark.parametrize("name", list_error_models())
def test_shipped_models_fit_the_shipped_weights(name):
    path = ASSETS / "error_models" / f"{name}.npz"
    m = load_error_model(name)
    assert path.stat().st_size <= 150_000 and m.method == name and len(m.names) > 40
    assert np.linalg.eigvalsh(m.corr).min() > 0 and (np.diff(m.shape, axis=1) >= 0).all() and (m.stays + m.fades <= 1 + 1e-6).all()
    now = file_fingerprint(ASSETS / "weights" / f"{name}.safetensors")[:16]
    assert now in m.note, f"{name}: the weights have changed since its error model was learned; run nbs/runs/calibrate_errors.ipynb with params/calibrate_errors.yaml again"


def test_every_shipped_lifter_has_a_model():
    assert set(list_error_models()) <= set(list_lifters())
    assert not list_error_models() or set(list_lifters()) == set(list_error_models())


def test_mirrored_angles_are_those_of_the_mirrored_body():
    sk = get_skeleton("vehs_66")
    seq = PoseSequence(np.array([p["keypoints66"] for p in POSES]), sk, fps=1, up=(0, 1, 0))
    a, b = joint_angles(seq), joint_angles(PoseSequence(flip(seq.joints, sk), sk, fps=1, up=(0, 1, 0)))
    for name, want in mirror_angles(dict(a)).items():
        good = np.isfinite(want) & np.isfinite(b[name])
        assert (np.isfinite(want) == np.isfinite(b[name])).all(), name
        d = (want[good] - np.asarray(b[name])[good] + 180) % 360 - 180
        assert np.abs(d).max(initial=0) < 1e-6, name


@pytest.mark.parametrize("name", list_error_models())
def test_shipped_models_treat_both_sides_alike(name):
    m, rng = load_error_model(name), np.random.default_rng(0)
    at = {n: np.quantile(m.knots[i], rng.random(200)) for i, n in enumerate(m.names)}
    here, there = m.interval(at), m.interval(mirror_angles(at))
    checked = 0
    for n, (low, high) in here.items():
        first, _, rest = n.partition("_")
        if first not in ("right", "left"): continue
        other = there[f"{dict(right='left', left='right')[first]}_{rest}"]
        assert np.abs(low - other[0]).max() < 1 and np.abs(high - other[1]).max() < 1, n
        checked += 1
    assert checked > 20


@pytest.mark.parametrize("method,total", [("rula", "grand"), ("reba", "reba")])
@pytest.mark.parametrize("side", ["right", "worst"])
def test_counts_are_those_of_one_draw_at_a_time(model, clip, method, total, side):
    got = draw_scores(clip, model, method, side, fps=50.0, draws=24, seed=7, chunk=8)
    used = set(got.drivers)
    want = np.zeros_like(got.counts)
    for part in sample_truth(model, clip, 50.0, 24, 7, 8, used):
        for d in range(8):
            drawn = {**clip, **{k: np.asarray(v[d], np.float64) for k, v in part.items()}}
            sides = ("right", "left") if side == "worst" else (side,)
            one = np.fmax.reduce([score(score_inputs(measure(drawn), method, s))[total] for s in sides])
            want[np.arange(len(one)), one.astype(int)] += 1
    assert (got.counts != want).any(1).mean() < 0.01     # float32 draws on an edge


def test_scores_of_one_call_share_their_draws(model, clip):
    both = draw_trial(clip, model, ("rula", "reba", "owas"), fps=50.0, draws=40, seed=1)
    again = draw_trial(clip, model, ("rula", "reba", "owas"), fps=50.0, draws=40, seed=1)
    assert set(both) == {"rula", "reba", "owas"}
    for k, d in both.items():
        assert np.array_equal(d.counts, again[k].counts) and np.allclose(np.nansum(d.level_probability, 1), 1)
        assert abs(sum(r["expected"] for r in summary_rows(d)) - 1) < 1e-9
        low, high = d.interval(0.9)
        s = np.arange(d.counts.shape[1])
        assert (((s >= low[:, None]) & (s <= high[:, None])) * d.probability).sum(1).min() >= 0.9 - 1e-9


def test_truth_drawn_from_the_model_is_covered(model, clip):
    long = made.recording(3000, seed=9)
    truth = {n: v[0] for n, v in next(iter(sample_truth(model, long, None, 1, seed=42))).items()}
    rows = coverage_rows(model, long, truth, np.arange(3000) // 100)
    assert abs(np.mean([r["coverage"] for r in rows]) - 0.9) < 0.01 and all(0.87 < r["coverage"] < 0.93 for r in rows)
    found = draw_trial(long, model, ("rula", "reba"), "right", draws=200, drivers=False)
    for m, d in found.items():
        r = score(score_inputs({**long, **truth}, m, "right"))
        level, total = np.asarray(r[r.level_field], float), np.asarray(r[r.total], float)
        c = level_calibration(d.level_probability, level)
        assert c["pooled"] < 0.03 and np.nanmean(inside(*d.interval(), total)) > 0.88, (m, c["pooled"])


def test_share_of_time_of_a_recording_is_covered(model):
    hits = []
    for k in range(25):
        angles = made.recording(150, seed=100 + k)
        truth = {n: v[0] for n, v in next(iter(sample_truth(model, angles, 50.0, 1, seed=k))).items()}
        d = draw_scores(angles, model, "reba", "right", fps=50.0, draws=100, seed=1000 + k, drivers=False)
        r = score(score_inputs({**angles, **truth}, "reba", "right"))
        level = np.asarray(r[r.level_field]).astype(int)
        low, high = np.quantile(d.time_share, [0.05, 0.95], axis=0)
        share = np.bincount(level, minlength=len(low)) / len(level)
        play = (d.time_share.mean(0) > 0.02) & (d.time_share.mean(0) < 0.98)
        hits += ((share >= low) & (share <= high))[play].tolist()
    assert len(hits) > 40 and np.mean(hits) > 0.8


def test_exposure_with_draws_brackets_the_estimate(model, clip):
    draws = list(sample_truth(model, clip, 50.0, 200, seed=2, names=("trunk_flexion_gravity",)))
    rows = exposure(clip, 50.0, dict(trunk_flexion_gravity=dict(edges_deg=[20, 60])), 30.0, draws, names=["trunk_flexion_gravity"])
    p50 = next(r for r in rows if r["measure"] == "P50 [deg]")
    assert p50["low"] < p50["value"] < p50["high"] and 0 < p50["high"] - p50["low"] < 20
    shares = [r for r in rows if r["measure"].startswith("time ")]
    assert abs(sum(r["value"] for r in shares) - 100) < 1e-9 and all(r["low"] <= r["high"] for r in shares)


def test_bad_input(model, clip):
    with pytest.raises(ValueError, match="is missing; learn a model"):
        draw_scores({k: v for k, v in clip.items() if k != "neck_rotation_left"}, model)
    with pytest.raises(ValueError, match="give fps="):
        draw_scores(clip, model, low_pass_hz=6.0)
    with pytest.raises(ValueError, match="looks like radians"):
        draw_scores({k: np.radians(v) for k, v in clip.items()}, model)
    with pytest.raises(ValueError, match="expected a sequence of a method with an error model"):
        error_model_for(PoseSequence(np.zeros((2, get_skeleton("rtm_24").num_joints, 3)), get_skeleton("rtm_24"), 1.0, method="someone else's"))
