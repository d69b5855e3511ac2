"""Left and right: mirrored input gives the mirrored output under flip averaging, on any joint set and every lifter; the shipped lifters do so nearly or
exactly without it; one wrong pair is seen."""
import numpy as np
import pytest
import torch
from small_files import FIVE

from humanbody.body import load_body
from humanbody.data.synthetic import make_store
from humanbody.inference import list_lifters, load_lifter
from humanbody.models.checkpoints import load_weights
from humanbody.models.lifters import RayWindow, build_lifter, flip_window, split_mesh_output
from humanbody.models.mesh_lifter import MeshRegressor, flip_average
from humanbody.models.model_table import construct
from humanbody.raytraining import RayData, ray_batch
from humanbody.skeleton import flip, get_skeleton, list_skeletons, skeleton_from_dict
from humanbody.tasks import MODELS, model_class
from humanbody.windows import flip_averaged

T = 9
ARGS = dict(dstformer=dict(dim_feat=16, dim_rep=16, depth=1, num_heads=2, maxlen=T), mixste=dict(dim_feat=16, depth=1, num_heads=2, maxlen=T),
            hypergraph=dict(dim_feat=16, depth=1, num_heads=2, maxlen=T), motionagformer=dict(dim_feat=16, dim_rep=16, n_layers=1, num_heads=2, layer_scale=0.5))
SETS = ("h36m_17", "rtm_24", "vehs_66", "hand_21", "five")
BODY = ("h36m_17", "rtm_24", "rtm_37", "vehs_66", "smpl_24", "smpl_45")


def joint_set(name):
    return skeleton_from_dict(FIVE) if name == "five" else get_skeleton(name)


def clip_lifter(name, sk):
    """Return an untrained lifter whose output is far from zero and from symmetric."""
    torch.manual_seed(0)
    model = construct(model_class(name)[0], sk, T, **ARGS[name]).eval()
    for p in model.parameters():
        if p.requires_grad: torch.nn.init.normal_(p, std=0.3)
    return model


def clip_of(sk):
    return torch.cat([torch.randn(2, T, sk.num_joints, 2, generator=torch.Generator().manual_seed(1)) / 2, torch.ones(2, T, sk.num_joints, 1)], -1)


def with_pairs(sk, pairs):
    """Return a joint set with another left-right table."""
    return skeleton_from_dict(sk.to_dict() | dict(name="changed", joints=list(sk.joints), left_right_pairs=[list(p) for p in pairs]))


def test_every_clip_lifter_is_tried():
    assert {n for n in MODELS if model_class(n)[1] == "clip"} == set(ARGS)


@pytest.mark.parametrize("skeleton", SETS)
@pytest.mark.parametrize("lifter", ARGS)
def test_averaging_commutes_with_the_mirror(lifter, skeleton):
    """With averaging the mirrored input gives the mirrored output to 1e-5; without it an untrained lifter does not."""
    sk = joint_set(skeleton)
    model, x = clip_lifter(lifter, sk), clip_of(sk)
    gap = lambda run: float((run(flip(x, sk)) - flip(run(x), sk)).abs().max())
    with torch.inference_mode():
        size = float(model(x).abs().max())
        assert gap(flip_averaged(model, sk)) <= 1e-5 * max(1.0, size)
        assert gap(model) > 1e-2 * size


def test_mesh_lifter_commutes_with_the_mirror():
    sk = get_skeleton("h36m_17")
    torch.manual_seed(0)
    backbone = construct(model_class("dstformer")[0], sk, T, **ARGS["dstformer"])
    model, x = MeshRegressor(backbone, load_body("free"), sk, 32, 0.0).eval(), clip_of(sk)
    torch.nn.init.normal_(model.head.head_pose.weight, std=0.1)
    with torch.inference_mode():
        mirrored, out = flip_average(model, flip(x, sk), sk).joints, flip_average(model, x, sk).joints
        assert (mirrored - flip(out, sk)).abs().max() < 1e-5
        assert (model(flip(x, sk)).joints - flip(model(x).joints, sk)).abs().max() > 1e-2


@pytest.mark.parametrize("skeleton", [n for n in sorted(list_skeletons()) if get_skeleton(n).pairs])
def test_one_wrong_pair_fails_the_averaging(skeleton):
    """Each pair left out of the table, and each two of them crossed, breaks the symmetry that the right table gives."""
    sk = get_skeleton(skeleton)
    weight, x = torch.randn(sk.num_joints, 3, generator=torch.Generator().manual_seed(0)), clip_of(sk)
    names = [(sk.joints[a], sk.joints[b]) for a, b in sk.pairs]

    def gap(table):
        run = flip_averaged(lambda c: c * weight, table)
        return float((run(flip(x, sk)) - flip(run(x), sk)).abs().max())

    assert gap(sk) < 1e-5
    for i in range(len(names)):
        assert gap(with_pairs(sk, names[:i] + names[i + 1:])) > 1e-2, names[i]
        if i + 1 < len(names):
            (a, b), (c, d) = names[i:i + 2]
            assert gap(with_pairs(sk, [*names[:i], (a, d), (c, b), *names[i + 2:]])) > 1e-2, names[i]


@pytest.mark.parametrize("skeleton", BODY)
def test_tables_agree_with_a_symmetric_body(skeleton):
    """The rest pose of the free body is its own mirror image under the table; with any one pair wrong it is not."""
    sk, body = get_skeleton(skeleton), load_body("free")
    rest = body.joints(torch.zeros(1, body.num_betas), torch.zeros(1, body.num_joints, 3), None, skeleton=sk.name)[0]
    gap = lambda table: float((flip(rest, table) - rest).abs().max())
    names = [(sk.joints[a], sk.joints[b]) for a, b in sk.pairs]
    assert names and gap(sk) < 1e-6
    for i in range(len(names)): assert gap(with_pairs(sk, names[:i] + names[i + 1:])) > 1e-2, names[i]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Return a store of one person at two tasks, seen by two cameras with detector-like noise."""
    return make_store(tmp_path_factory.mktemp("people") / "store", 1, ["lift_floor_knuckle", "bench_twist"], 3.0, seed=91, split=(0.0, 0.0, 1.0), cameras=2)


def joints_of(model, lifter, win):
    """Return joints (B,J,3) in view axes, relative to their mean, of a lifter or a mesh lifter."""
    out = model(win.x, win.context)
    if lifter.is_mesh:
        rot, betas = split_mesh_output(out)
        out = load_body("free").joints(betas, rot, None, skeleton=lifter.skeleton.name)
    return out - out.mean(-2, keepdim=True)


def gap_and_error(lifter, store, model=None, sk=None):
    """Return the mean distance between f(mirror x) and mirror f(x), and the error of f on detected keypoints, both in metres."""
    model, sk = model or lifter.model, sk or lifter.skeleton
    data = RayData(store, "test", lifter.skeleton, getattr(model, "window", 1), getattr(model, "step", 1))
    b = ray_batch(data, np.arange(0, len(data), 3))
    win, truth = RayWindow(b["x"], b["context"], b["view"]), b["target"] - b["target"].mean(-2, keepdim=True)
    with torch.inference_mode():
        out, mirrored = joints_of(model, lifter, win), joints_of(model, lifter, flip_window(win, sk))
    return float((mirrored - flip(out, sk)).norm(dim=-1).mean()), float((out - truth).norm(dim=-1).mean())


@pytest.mark.parametrize("name", list_lifters())
def test_shipped_lifters_know_left_from_right(name, people):
    """Without flip averaging the gap is at most a fifth of the error on unseen people; those that mirror by construction have none."""
    lifter = load_lifter(name)
    gap, error = gap_and_error(lifter, people)
    assert error < 0.12 and gap <= 0.2 * error, f"{name}: gap {1000 * gap:.2f} mm, error {1000 * error:.1f} mm"
    if lifter.weights.config["kind"] in ("mirror", "twin"): assert gap < 1e-5


@pytest.mark.parametrize("name", [n for n in list_lifters() if not n.startswith("mesh")])
def test_shipped_lifters_with_one_wrong_pair(name, people):
    """A flip table with two pairs crossed, in the mirror that tests or in the lifter's own, opens a gap far above rounding."""
    lifter = load_lifter(name)
    sk = lifter.skeleton
    names = [(sk.joints[a], sk.joints[b]) for a, b in sk.pairs]
    (a, b), (c, d) = names[0], names[-1]
    crossed = with_pairs(sk, [(a, d), *names[1:-1], (c, b)])
    right, error = gap_and_error(lifter, people)
    assert gap_and_error(lifter, people, sk=crossed)[0] > 0.2 * error > right
    wrong = build_lifter(lifter.weights.config | dict(pairs=[list(p) for p in crossed.pairs]))
    load_weights(lifter.weights.path, wrong)
    assert gap_and_error(lifter, people, wrong.eval().float())[0] > 0.2 * error
