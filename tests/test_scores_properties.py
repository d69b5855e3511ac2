"""RULA, REBA, OWAS and NIOSH: random postures against the oracle with plain ifs, edges, monotony, shapes, missing values, bad input."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from score_oracle import DATA, reba_one, rula_one

from humanbody.ergo.niosh import niosh_rwl
from humanbody.ergo.score_results import why_undefined
from humanbody.ergo.scores import owas, reba, rula

N = 10_000
EDGES = np.array([-20, -5, 0, 5, 10, 15, 20, 30, 45, 60, 90, 100])


def random_inputs(method: str, n: int, seed: int = 0) -> dict:
    "Draw inputs; every third angle sits exactly on a class edge."
    rng, out = np.random.default_rng(seed), {}
    for name, record in DATA[method]["inputs"].items():
        if record["kind"] == "angle":
            x = rng.uniform(-60, 150, n)
            out[name] = np.where(rng.random(n) < 1 / 3, rng.choice(EDGES, n), x) * np.where(rng.random(n) < 0.1, -1, 1)
        else:
            low, high = record["range"]
            out[name] = rng.integers(low, high + 1, n)
    return out


def test_rula_equals_the_oracle():
    x = random_inputs("rula", N)
    r = rula(**x)
    got = np.stack([*r.subscores.values(), r.score_A, r.score_B, r.wrist_arm_C, r.neck_trunk_leg_D, r.grand, r.action_level])
    for i in range(N):
        subs, *rest = rula_one({k: v[i].item() for k, v in x.items()})
        assert got[:, i].tolist() == [*subs, *rest], {k: v[i] for k, v in x.items()}


def test_reba_equals_the_oracle():
    x = random_inputs("reba", N)
    r = reba(**x)
    got = np.stack([*r.subscores.values(), r.table_A, r.score_A, r.table_B, r.score_B, r.score_C, r.reba, r.action_level])
    for i in range(N):
        subs, *rest = reba_one({k: v[i].item() for k, v in x.items()})
        assert got[:, i].tolist() == [*subs, *rest], {k: v[i] for k, v in x.items()}


@pytest.mark.parametrize("method,score,total", [("rula", rula, "grand"), ("reba", reba, "reba")])
def test_scalar_equals_vector_and_any_shape(method, score, total):
    x = random_inputs(method, 60, 1)
    vector = score(**x)[total]
    assert [score(**{k: v[i].item() for k, v in x.items()}, angle_unit="deg")[total] for i in range(60)] == vector.tolist()
    grid = score(**{k: v.reshape(3, 4, 5) for k, v in x.items()})[total]
    assert np.array_equal(grid, vector.reshape(3, 4, 5))
    dtype = {k: v.astype(np.float32) if v.dtype.kind == "f" else v.astype(bool) if v.max() <= 1 else v.astype(np.uint8) for k, v in x.items()}
    whole = {k: np.rint(v) for k, v in x.items()}
    assert np.array_equal(score(**{k: v.astype(d.dtype) for (k, v), d in zip(whole.items(), dtype.values())})[total], score(**whole)[total])


@pytest.mark.parametrize("method,score,total", [("rula", rula, "grand"), ("reba", reba, "reba")])
def test_more_load_never_lowers_the_score(method, score, total):
    "Force, muscle, load, grip and activity enter tables that rise: adding to them never lowers a score."
    x = random_inputs(method, 2000, 2)
    base = score(**x)[total]
    for name in ("muscle_a", "force_a", "muscle_b", "force_b") if method == "rula" else ("load_score", "coupling_score", "activity_score"):
        top = DATA[method]["inputs"][name]["range"][1]
        assert (score(**{**x, name: np.full(2000, top)})[total] >= base).all(), name


def test_reba_rises_with_each_bend():
    "Table A of REBA never falls, so bending further forward never lowers the score."
    x = {k: v[:300, None] for k, v in random_inputs("reba", 300, 3).items()}
    for name in ("trunk_flexion", "knee_flexion"):
        r = reba(**{**x, name: np.arange(0, 140, 2.5)[None]}).reba
        assert (np.diff(r, axis=1) >= 0).all(), name


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["rula", "reba"]), st.integers(0, 10_000), st.data())
def test_missing_is_nan_with_its_name(method, seed, data):
    x = {k: v[0].item() for k, v in random_inputs(method, 1, seed).items()}
    name = data.draw(st.sampled_from(sorted(x)))
    r = (rula if method == "rula" else reba)(**{**x, name: float("nan")}, angle_unit="deg")
    ignored = method == "reba" and name == "knee_flexion" and x["sitting"] == 1
    assert np.isnan(r[r.total]) != ignored
    assert (name in why_undefined(r)) != ignored
    assert not any(np.isnan(v) for k, v in r.subscores.items() if name not in _feeds(method)[k])


def _feeds(method: str) -> dict:
    return {k: [s.get("angle"), s.get("angle_not_when"), *s.get("modifiers", {})] for k, s in DATA[method]["subscores"].items()}


def test_owas_all_codes_and_missing():
    table = np.array(DATA["owas"]["tables"]["category"]["values"])
    digits = np.indices(table.shape).reshape(4, -1) + 1
    codes = ["".join(map(str, c)) for c in digits.T]
    assert np.array_equal(owas(codes).category, table.ravel())
    assert np.array_equal(owas(back=digits[0], arms=digits[1], legs=digits[2], load=digits[3]).category, table.ravel())
    r = owas(back=[1, np.nan], arms=[np.nan, 1], legs=2)
    assert np.isnan(r.category).all() and "arms" in why_undefined(r, 0) and "back" in why_undefined(r, 1)


def test_niosh_units_agree():
    "Pounds and inches give the same index within the rounding of the published constants (H 1.6 %, load 0.6 %, V 1.6 % at most, D 0.1 %)."
    rng = np.random.default_rng(0)
    n = 500
    x = dict(load=rng.uniform(2, 30, n), H=rng.uniform(26, 62, n), V=rng.uniform(5, 170, n), D=rng.uniform(26, 170, n))
    rest = dict(A=rng.uniform(0, 130, n), lifts_per_min=rng.uniform(0.2, 8, n), coupling="poor")
    metric = niosh_rwl(**x, **rest).LI
    us = niosh_rwl(load=x["load"] / 0.45359237, **{k: x[k] / 2.54 for k in "HVD"}, **rest, units="us").LI
    assert np.abs(us / metric - 1).max() < 0.04


def test_niosh_missing_and_broadcast():
    r = niosh_rwl(load=10, H=[[30.0], [40.0]], V=[50.0, np.nan, 80.0], D=40, A=0, lifts_per_min=1, duration=["short", "long", "long"], coupling="fair")
    assert r.RWL.shape == (2, 3) and np.isnan(r.RWL[:, 1]).all() and np.isfinite(r.RWL[:, [0, 2]]).all()
    assert (r.RWL[1, [0, 2]] < r.RWL[0, [0, 2]]).all() and (r.action_level[:, 0] >= 1).all()


GOOD = dict(upper_arm_flexion=30, elbow_flexion=80, wrist_flexion=0, neck_flexion=5, trunk_flexion=10)


@pytest.mark.parametrize("change,says", [
    (dict(trunk_flexion="10 deg"), "without text or unit"), (dict(trunk_flexion=1000), "degrees from -360 to 360"), (dict(trunk_flexion=np.inf), "degrees from -360 to 360"),
    (dict(wrist_twist=0), "wrist_twist as 1 or 2"), (dict(wrist_twist=3), "wrist_twist as 1 or 2"), (dict(arm_abducted=0.5), "arm_abducted as 0 or 1, found 0.5"),
    (dict(arm_abducted=-1), "found -1"), (dict(force_a=[0, 4]), "whole number from 0 to 3, found 4"), (dict(force_a=300), "found 300"), (dict(force_a=256.0), "found 256"),
    (dict(muscle_a=[np.nan, 7]), "found 7"), (dict(trunk_flexion=None), "expected trunk_flexion, found nothing"),
    (dict(trunk_flexion=np.zeros(3), neck_flexion=np.zeros(4)), "broadcast"), (dict(angle_unit="grad"), "angle_unit"),
    (dict(settings={"neck.limit": 3}), "expected a threshold"), (dict(trunk_flexion=[[1, 2], [3]]), "number or an array"),
])
def test_bad_input_is_one_sentence(change, says):
    with pytest.raises(ValueError) as e:
        rula(**{**GOOD, **change})
    assert says in str(e.value) and "\n" not in str(e.value), str(e.value)


def test_empty_arrays():
    r = rula(**{k: np.zeros(0) for k in GOOD})
    assert r.grand.shape == (0,) and r.shape == (0,)
