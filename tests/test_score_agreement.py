"""Statistics of a comparison against fixtures and against what they promise: error rates, coverage, and the closed form of the level curve."""
from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from humanbody.ergo.agreement import agreement, icc
from humanbody.ergo.angles import ANGLES_ALL, JointAngles, angle_keys
from humanbody.ergo.curve_tests import cluster_masses, contrast_rows, curve_test, holm, mean_test, sign_flips
from humanbody.ergo.comparison import compare
from humanbody.ergo.level_curve import action_levels, angles_used, curve_rows, gather_truth, level_curve
from humanbody.ergo.score_agreement import class_agreement, kappa, score_agreement, score_classes, score_pairs, subject_tables

STATS = json.loads((Path(__file__).parent / "fixtures/ergonomics/agreement_stats.json").read_text())
KEYS = [*(k for n in ANGLES_ALL for k in angle_keys(n)), *(f"{s}_{n}_proj" for s in ("right", "left") for n in ("wrist_flexion", "wrist_radial_deviation"))]
TRUNK = "trunk_flexion_gravity"


def made(values: dict, subject: str, fps: float = 50.0) -> JointAngles:
    "JointAngles with every angle at 0 except some."
    T = len(next(iter(values.values())))
    full = {n: np.asarray(values.get(n, np.zeros(T)), float) for n in KEYS}
    return JointAngles(full, {n: np.zeros(T, np.uint8) for n in full}, dict.fromkeys(full, "full"), dict.fromkeys(full, ""),
                       dict(subject=subject, trial="t", camera="", frames=np.arange(T), fps=fps))


def people(count: int, seed: int = 0, T: int = 60) -> list[JointAngles]:
    "Random postures of some people."
    rng = np.random.default_rng(seed)
    return [made({n: rng.uniform(*((0, 90) if "elevation" in n or "flexion" in n or "inclination" in n else (-25, 25)), T) for n in KEYS}, f"S{s}") for s in range(count)]


@pytest.mark.parametrize("pair", STATS["pairs"], ids=lambda p: p["name"])
def test_statistics_of_the_fixture(pair):
    found = agreement(pair["estimate"], pair["reference"], pair["circular"])
    for name, value in pair["expected"].items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_icc_of_shrout_and_fleiss():
    table = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    assert [round(v, 2) for v in icc(table).values()] == [0.17, 0.29, 0.71, 0.44, 0.62, 0.91]


def test_kappa_interval_covers():
    "The subject bootstrap of kappa holds the true value about as often as it says (12 subjects who differ)."
    big, hits, runs = [], 0, 120
    def study(rng, subjects):
        out = []
        for s in range(subjects):
            truth = rng.integers(1, 5, 60)
            wrong = rng.random(60) < rng.beta(3, 7)
            out.append((np.where(wrong, np.clip(truth + rng.choice([-1, 1], 60), 1, 4), truth), truth, np.full(60, s)))
        return (np.concatenate(x) for x in zip(*out))
    e, r, s = study(np.random.default_rng(99), 4000)
    true = float(kappa(subject_tables(e, r, s, [1, 2, 3, 4]).sum(0), [1, 2, 3, 4], "linear"))
    for k in range(runs):
        a = class_agreement(*study(np.random.default_rng(k), 12), [1, 2, 3, 4], draws=300, seed=k)
        hits += a["kappa_linear_low"] <= true <= a["kappa_linear_high"]
    assert 0.83 <= hits / runs <= 1, hits / runs


def test_curve_test_keeps_its_promise():
    "Without an effect, about 5 percent of studies claim one; with heavy tails too."
    rng, runs = np.random.default_rng(5), 400
    for tails in (False, True):
        false = 0
        for _ in range(runs):
            x = rng.standard_t(3, (8, 101)) if tails else rng.normal(size=(8, 101))
            false += curve_test(gaussian_filter1d(x, 6, axis=1)).p <= 0.05
        assert 0.01 <= false / runs <= 0.085, false / runs


def test_curve_test_finds_more_with_more_people():
    rng, bump = np.random.default_rng(6), np.where(abs(np.arange(101) - 50) < 12, 1.0, 0.0)
    power = [np.mean([curve_test(gaussian_filter1d(rng.normal(size=(n, 101)), 6, axis=1) * 3.5 + bump * 1.0, draws=512).p <= 0.05 for _ in range(60)]) for n in (6, 16)]
    assert power[1] > power[0] + 0.15, power


def test_curve_test_is_symmetric():
    x = gaussian_filter1d(np.random.default_rng(7).normal(0.3, 1, (7, 80)), 5, axis=1)
    a, b, c = curve_test(x), curve_test(-x), curve_test(x[:, ::-1])
    assert a.p == b.p == c.p and np.allclose(a.t, -b.t) and len(a.clusters) == len(c.clusters)
    assert [k["sign"] for k in a.clusters] == [-k["sign"] for k in b.clusters]


def test_cluster_masses_against_a_loop():
    t = np.random.default_rng(8).normal(0, 2, (40, 30))
    row, first, last, mass, sign = cluster_masses(t, 1.0)
    expected = []
    for p in range(40):
        q = 0
        while q < 30:
            s, start, total = np.sign(t[p, q]) * (abs(t[p, q]) > 1), q, 0.0
            while s and q < 30 and np.sign(t[p, q]) == s and abs(t[p, q]) > 1:
                total += abs(t[p, q]) - 1
                q += 1
            if s:
                expected.append((p, start, q - 1, total, int(s)))
            q += not s
    assert len(expected) == len(row)
    assert np.allclose(np.array(expected), np.stack([row, first, last, mass, sign], axis=1))


def test_few_subjects_are_refused_or_named():
    for n in (1, 2, 4):
        with pytest.raises(ValueError, match="at least 5 subjects"):
            sign_flips(n)
    refs = people(3)
    found = compare({"m": people(3, 1)}, refs, names=("trunk_twist_left",), draws=50)
    assert "3 subjects" in found.settings["warning"] and contrast_rows(found, ("trunk_twist_left",)) == []
    with pytest.warns(UserWarning, match="3 subjects"):
        score_agreement({"m": people(3, 1)}, refs, ("owas",), draws=50)


def test_mean_test_is_exact_under_the_null():
    rng = np.random.default_rng(9)
    p = np.array([mean_test(rng.normal(size=7))["p"] for _ in range(600)])
    assert abs(np.mean(p <= 0.0625) - 0.0625) < 0.035 and p.min() >= 2 / 2**7
    assert (holm(p[:20]) >= p[:20]).all()


@pytest.mark.parametrize("method", ["rula", "reba", "owas"])
def test_levels_follow_the_same_path_as_trial_scores(method):
    refs = people(5)
    truth = gather_truth(refs)
    same = score_pairs(refs, refs, method)
    assert np.array_equal(np.where(np.isnan(same.reference["level"]), -1, same.reference["level"]), action_levels(truth, method))
    assert set(np.unique(same.reference["score"])) <= set(score_classes(method)["score"])


@pytest.mark.parametrize("method", ["rula", "reba", "owas"])
def test_level_curve_properties(method):
    truth = gather_truth(people(6))
    c = level_curve(truth, method, "noise", [0, 1, 4, 12], draws=8)
    assert c.wrong[0].sum() == 0 and np.allclose(c.wrong, c.low + c.high) and (np.diff(c.wrong.sum(1)) > 0).all()
    again = level_curve(truth, method, "noise", [0, 1, 4, 12], draws=8)
    assert np.array_equal(c.wrong, again.wrong)
    r = curve_rows(c, draws=300)
    assert all(x["wrong_percent_from"] <= x["wrong_percent"] <= x["wrong_percent_to"] for x in r) and r[-1]["n_subjects"] == 6
    used = angles_used(truth, method)
    quiet = level_curve(truth, method, "bias", [15.0], names=used[:1], scale={used[0]: 0.0})
    assert quiet.wrong.sum() == 0


def test_a_bias_on_one_angle_is_what_counting_gives():
    "OWAS and the trunk: disturbed levels equal levels of shifted postures, frame by frame."
    refs = people(5)
    truth, size = gather_truth(refs), 7.0
    base = action_levels(truth, "owas")
    shifted = [action_levels(truth, "owas", {**truth.angles, TRUNK: truth.angles[TRUNK] + np.float32(s * size)}) for s in (-1, 1)]
    by_hand = np.mean([np.mean(x != base) for x in shifted])
    c = level_curve(truth, "owas", "bias", [size], draws=2, names=[TRUNK])
    assert c.wrong.sum() / c.frames.sum() == pytest.approx(by_hand, abs=1e-9)


def test_methods_that_are_worse_agree_less():
    rng, refs = np.random.default_rng(11), people(6)
    def noisy(size):
        return [made({n: v + rng.normal(0, size, len(v)) for n, v in a.values_deg.items()}, a.frame_info["subject"]) for a in refs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score_agreement({"good": noisy(1), "poor": noisy(10)}, refs, draws=100)
    k = {(r["method"], r["score"]): r["kappa_linear"] for r in found.rows if r["of"] == "level"}
    assert all(k["good", s] > k["poor", s] for s in ("rula", "reba", "owas"))
