"""Left and right: mirrored input gives the mirrored output under flip averaging, on any joint set and every lifter; one wrong pair is seen."""
import pytest
import torch
from small_files import FIVE

from humanbody.body import load_body
from humanbody.models.mesh_lifter import MeshRegressor, flip_average
from humanbody.models.model_table import construct
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
