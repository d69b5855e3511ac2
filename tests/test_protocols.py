"""Every convention at once: parity with the reference in all its settings, a naive scorer, hostile input, and the speed of 100 k frames."""
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from humanbody.conventions import evaluate_all
from humanbody.data.h36m import read_h36m
from humanbody.evaluation import evaluate_h36m
from humanbody.models.dstformer import DSTformer, fill_recipe
from humanbody.protocols import get_protocol, lifted_trials, list_protocols
from humanbody.skeleton import get_skeleton, skeleton_from_dict

FIXTURES = Path(__file__).parent / "fixtures/lifting"
FIVE = skeleton_from_dict(dict(name="toy_5", joints=["hip", "l_knee", "r_knee", "l_foot", "r_foot"], root="hip",
                               bones=[[0, 1], [0, 2], [1, 3], [2, 4]], left_right=[[1, 2], [3, 4]]))
SETS = [FIVE, "h36m_17", "rtm_24", "vehs_66"]


@pytest.fixture(scope="module")
def reader():
    """The reference's test split, clips and model."""
    torch.set_num_threads(1)
    ref = dict(np.load(FIXTURES / "h36m_reader_eval.npz"))
    split = read_h36m({"test": {k[9:]: v for k, v in ref.items() if k.startswith("src_test_")}})["test"]
    config = {k: v for k, v in json.loads(str(ref["config"])).items() if k != "backbone"}
    return ref, split, fill_recipe(DSTformer(**config), float(ref["weight_std"])).eval()


@pytest.mark.parametrize("rootrel,gt_2d", [(True, False), (True, True), (False, False)])
def test_reference_numbers(reader, rootrel, gt_2d):
    """P1 and P2, overall and per action, with and without flip, at 1e-5."""
    ref, split, model = reader
    args, worst = lifted_trials(model, split, ref["split_test"], rootrel, gt_2d), 0
    for f, side in enumerate(("pred", "pred_flip")):
        name = f"flip{f}_rootrel{int(rootrel)}_gt2d{int(gt_2d)}"
        r = evaluate_all(**{**args, "pred": args[side], "pred_flip": None}, flip=bool(f), protocol="h36m_reference", draws=20)
        for metric, total, part in (("mpjpe", "e1", "P1"), ("pa_mpjpe", "e2", "P2")):
            actions = {a["action"]: a["value"] for a in r.per_action if a["metric"] == metric}
            pairs = [(r.find(metric=metric, average="actions", tails="windows", joints="all", root="any" if part == "P2" else "skeleton")[0]["value"], ref[f"{total}_{name}"])]
            pairs += list(zip([actions[a] for a in ref["actions"]], ref[f"{part}_{name}"]))
            worst = max(worst, *(abs(a / b - 1) for a, b in pairs))
    assert worst < 1e-5, worst


def test_agrees_with_evaluate_h36m(reader):
    """The same frames, the same numbers as the protocol's own function."""
    ref, split, model = reader
    r, own = evaluate_all(**lifted_trials(model, split, ref["split_test"]), protocol="h36m", draws=20), evaluate_h36m(model, split, ref["split_test"])
    assert abs(r.value("mpjpe") / own.p1_mm - 1) < 1e-9 and abs(r.value("pa_mpjpe") / own.p2_mm - 1) < 1e-6
    assert [h["frames"] for h in r.headline if h["metric"] == "mpjpe"] == [own.frames]


def naive(pred, truth, root, actions):
    """Score plain loops: frames, actions."""
    errors, by = [], {}
    for p, t, a in zip(pred, truth, actions):
        for f, g in zip(p, t):
            f, g = (f - f[root], g - g[root]) if root is not None else (f, g)
            e = np.mean([np.linalg.norm(x - y) for x, y in zip(f, g)]) * 1000
            errors.append(e)
            by.setdefault(a, []).append(e)
    return np.mean(errors), np.mean([np.mean(v) for v in by.values()])


def naive_pa(pred, truth):
    """Align every frame by scipy's rotation and the least-squares scale."""
    out = []
    for f, g in zip(pred.reshape(-1, *pred.shape[-2:]), truth.reshape(-1, *pred.shape[-2:])):
        a, b = f - f.mean(0), g - g.mean(0)
        a = Rotation.align_vectors(b, a)[0].apply(a)
        out.append(np.linalg.norm((a * b).sum() / (a * a).sum() * a - b, axis=1).mean() * 1000)
    return np.mean(out)


@pytest.mark.parametrize("sk", SETS, ids=str)
def test_naive_scorer(sk):
    """Loops over frames and joints give the same frame and action means, plain and aligned."""
    sk, rng = get_skeleton(sk), np.random.default_rng(1)
    t = rng.normal(size=(5, 8, sk.num_joints, 3))
    p, actions = t + rng.normal(size=t.shape) * 0.05, list("aabbb")
    r = evaluate_all(p, t, "motion", sk, actions=actions, subjects=list("xyxyx"), flip=False, draws=30)
    for root, index in (("skeleton", sk.root), ("none", None)):
        for average, want in zip(("frames", "actions"), naive(p, t, index, actions)):
            assert abs(r.value("mpjpe", root=root, average=average, tails="all") - want) < 1e-8
    assert abs(r.value("pa_mpjpe") - naive_pa(p, t)) < 1e-7
    row = r.find(metric="mpjpe", headline=True)[0]
    assert row["samples"] == 40 and row["subjects"] == 2 and row["low"] <= row["value"] <= row["high"]


@pytest.mark.parametrize("name", list_protocols())
@pytest.mark.parametrize("sk", SETS, ids=str)
def test_every_protocol(name, sk):
    """Each protocol takes the joint sets it names, refuses others, and refuses millimetres and holes in one sentence."""
    p, s, rng = get_protocol(name), get_skeleton(sk), np.random.default_rng(2)
    x = rng.normal(size=(2, 12, s.num_joints, 3))
    if p.skeletons and s.name not in p.skeletons:
        with pytest.raises(ValueError, match="is defined for"): evaluate_all(x, x, name, s)
        return
    r = evaluate_all(x, x, name, s, flip=True, fps=50.0, draws=10)
    assert r.headline and all(abs(h["value"]) < 1e-4 for h in r.headline if h["unit"] in ("mm", "mm/frame^2") and h["samples"])
    assert len(r.table().splitlines()) >= 3 and json.dumps(r.to_dict())
    with pytest.raises(ValueError, match="beyond 50 m"): evaluate_all(x * 1000, x, name, s)
    y = x.copy()
    y[1, 3, 2] = np.nan
    with pytest.raises(ValueError, match="trial 1 is NaN or infinite at 1 points"): evaluate_all(y, x, name, s)
    assert any("no truth" in n for n in evaluate_all(x, y, name, s, fps=50.0, draws=10).notes)


def test_interval_covers():
    """In 80 small studies the 95 % interval over 12 subjects holds the true mean about as often as it says."""
    rng, hit = np.random.default_rng(3), 0
    for k in range(80):
        size = np.abs(0.05 + 0.01 * rng.normal(size=12))  # one error per subject
        t = np.zeros((12, 2, 5, 3))
        p = t.copy()
        p[..., 0] += size[:, None, None]
        row = evaluate_all(p, t, "motion", FIVE, subjects=[str(i) for i in range(12)], flip=False, draws=200, seed=k).find(
            metric="mpjpe", root="none", average="frames", tails="all")[0]
        hit += row["low"] <= 50.0 <= row["high"]
    assert 0.8 <= hit / 80 <= 1


def test_speed():
    """100 k frames of 17 joints: all conventions with intervals take less time than a loop over frames for one of them."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=(400, 250, 17, 3))
    p = t + rng.normal(size=t.shape) * 0.03
    start = time.process_time()
    evaluate_all(p, t, "h36m", "h36m_17", flip=True, actions=[f"a{i % 15}" for i in range(400)], subjects=[f"s{i % 7}" for i in range(400)], draws=200)
    ours = time.process_time() - start
    start = time.process_time()
    naive_pa(p[:4], t[:4])
    naive(p[:4], t[:4], 0, ["a"] * 4)
    loop = (time.process_time() - start) * 100
    assert loop > ours, (loop, ours)
