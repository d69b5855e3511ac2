"""PyMAF against the reference's numbers, with flat and with strong weights, and the typical mistakes that these numbers catch."""
import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mesh_recipes import draw, fill, mean_params, mesh_body, rng, rows

from humanbody.body import load_body
from humanbody.data.mask_points import select_points
from humanbody.data.masks import make_mask
from humanbody.models import maf_extractor, pymaf
from humanbody.models.hmr import MeanParams, mesh_of, project
from humanbody.models.pymaf import PyMAF, uniform_grid
from humanbody.models.resnet import Features
from humanbody.rotation import rotmat_to_rotvec
from humanbody.skeleton import get_skeleton

FIXTURES = Path(__file__).parent / "fixtures/mesh"
RECIPES = {"flat": "", "gain": "g_"}
DENSE = dict(u="predict_u", v="predict_v", part="predict_uv_index", group="predict_ann_index")


def levels():
    "Vertices that the two published selections take."
    r = rng("mesh_downsampling")
    return [np.sort(r.choice(m, n, replace=False)) for n, m in ((1723, 6890), (431, 1723))]


def build(**options):
    torch.set_num_threads(1)
    first, second = levels()
    return PyMAF(mesh_body(), mean=MeanParams(*map(torch.from_numpy, mean_params())), vertices=torch.from_numpy(first[second]), **options).eval()


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(draw("pymaf/img", (2, 3, 224, 224)))


@pytest.fixture(scope="module")
def nets(images):
    "One network per recipe, which remembers what its backbone saw in the images."
    out, first = {}, build()
    for name in RECIPES:
        net = out[name] = fill(deepcopy(first), gain=name == "gain")
        with torch.no_grad(): seen = net.feature_extractor.features(images)
        net.feature_extractor.features = lambda x, seen=seen: Features(seen.pooled[:len(x)], seen.spatial[:len(x)])
    return out


@pytest.fixture(scope="module")
def truth():
    return np.load(FIXTURES / "pymaf.npz")


def close(a, b, atol=1e-5): np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)


def theta(s): return torch.cat([s.camera, s.betas, rotmat_to_rotvec(s.rotmats).flatten(1)], 1)


def gap(out, truth, recipe):
    "Largest difference of any state from the reference."
    return max(float(np.abs(s.pose6d.numpy() - truth[f"{RECIPES[recipe]}out{k}_pred_pose"]).max()) for k, s in enumerate(out.states))


@pytest.mark.parametrize("recipe", RECIPES)
def test_states(nets, truth, images, recipe):
    net, p = nets[recipe], RECIPES[recipe]
    with torch.no_grad(): out = net(images, dense=True)
    assert len(out.states) == 4
    for k, s in enumerate(out.states):
        mesh = mesh_of(net.body, s)
        for name, got in dict(theta=theta(s), rotmat=s.rotmats, pred_pose=s.pose6d, pred_cam=s.camera, pred_shape=s.betas, kp_3d=mesh.joints,
                              kp_2d=project(mesh.joints, s.camera)).items():
            close(got, truth[f"{p}out{k}_{name}"])
        close(mesh.vertices[:, ::10], truth[f"{p}out{k}_verts_s"])
        close(net.body(s.betas, s.rotmats).joints, truth[f"{p}out{k}_smpl_kp_3d"])
        if recipe == "flat":  # the reference's other joints: 14 of the regressed H36M joints, from the pelvis
            sk, want = get_skeleton("h36m_17"), truth[f"J_out{k}_kp_3d"]
            points = torch.from_numpy(rows("J_regressor_h36m", sk.num_joints, 8)).float() @ mesh.vertices
            order = json.loads((FIXTURES / "joint_sets.json").read_text())["H36M_TO_J14"]
            close((points - points[:, :1])[:, order], want)
    for name, key in DENSE.items():
        close(out.dense[name][:, :, ::7, ::7], truth[f"{p}dp_{key}_s"])
        close([out.dense[name].mean(), out.dense[name].std()], truth[f"{p}dp_{key}_meanstd"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_features(nets, truth, images, recipe, monkeypatch):
    net, p, seen = nets[recipe], RECIPES[recipe], []
    for r in net.regressor: monkeypatch.setattr(r.fc1, "forward", lambda x, f=r.fc1.forward: (seen.append(x), f(x))[1])
    with torch.no_grad():
        net(images)
        maps = [net.feature_extractor.features(images).spatial]
        for k in range(3): maps.append(net.deconv_layers[3 * k:3 * k + 3](maps[-1]))
    for k in range(3): close(seen[k], truth[f"{p}regr_in{k}"])
    for k, (m, cut) in enumerate(zip(maps, (1, 1, 4, 4))): close(m[:, ::64, ::cut, ::cut], truth[f"{p}feat{k}_s"])


class Instead:
    "A module with some functions replaced."

    def __init__(self, module, **other): self.module, self.other = module, other

    def __getattr__(self, name): return self.other.get(name) or getattr(self.module, name)


F, CAT = torch.nn.functional, torch.cat
SAMPLE = lambda **other: Instead(F, grid_sample=lambda x, g, **k: F.grid_sample(x, g, **(k | other)))
WRONG_F = dict(corners=SAMPLE(align_corners=False), border=SAMPLE(padding_mode="border"), slope=Instead(F, leaky_relu=lambda x: F.leaky_relu(x, 0.1)),
               relu=Instead(F, relu=lambda x: x))


def spoil(net, mistake, monkeypatch):
    "Make one of nine mistakes."
    mean = net.regressor[0].start(2)
    if mistake in WRONG_F: monkeypatch.setattr(maf_extractor, "F", WRONG_F[mistake])
    if mistake == "concatenation": monkeypatch.setattr(maf_extractor, "torch", Instead(torch, cat=lambda x, dim=0: CAT(x[::-1], dim)))
    if mistake == "stale camera": monkeypatch.setattr(pymaf, "project", lambda v, c: project(v, mean.camera))
    if mistake == "stale mesh":
        old = net.sampled.forward
        monkeypatch.setattr(net.sampled, "forward", lambda betas, rot: old(mean.betas, mean.rotmats))
    if mistake == "flatten":
        for m in net.maf_extractor: monkeypatch.setattr(m, "forward", lambda x, p, f=m.forward: f(x, p).view(2, 5, -1).transpose(1, 2).flatten(1))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("mistake", ["none", *WRONG_F, "concatenation", "stale camera", "stale mesh", "flatten", "grid"])
def test_mistakes(nets, truth, images, recipe, mistake, monkeypatch):
    net = nets[recipe]
    spoil(net, mistake, monkeypatch)
    with torch.no_grad(): out = net(images, uniform_grid().flip(-1) if mistake == "grid" else "grid")
    assert gap(out, truth, recipe) < 1e-5 if mistake == "none" else gap(out, truth, recipe) > 1e-4


def test_names(nets):
    "The released names, shapes and types, but for the body's buffers and the one-hot matrices."
    want = {k: (s, d) for k, s, d in json.loads((FIXTURES / "keys_pymaf.json").read_text()) if ".smpl." not in k}
    got = {k: (list(v.shape), str(v.dtype)[6:]) for k, v in nets["flat"].state_dict().items()}
    assert got.pop("mesh_topology") == ([1], "int64")
    for k in want:
        if k.endswith("Dmap"): want[k] = ([want[k][0][0]], "int64")
    assert got == want


def released(net, body):
    "A file's tensors in the published layout: the body's buffers, matrices in the place of vertex numbers."
    state = {k: v for k, v in net.state_dict().items() if k != "mesh_topology"}
    for k in [k for k in state if k.endswith("Dmap")]: state[k] = F.one_hot(state[k], body.num_vertices).float()
    for i in range(3):
        state[f"regressor.{i}.smpl.faces_tensor"] = body.faces
        state[f"regressor.{i}.smpl.shapedirs"] = body.shapedirs.contiguous()
    return state


def test_released_layout(nets, truth, images):
    "A file fills a model that was built with other vertices; a model on the free body refuses it."
    state = released(nets["gain"], mesh_body())
    assert set(state) - {k for k, *_ in json.loads((FIXTURES / "keys_pymaf.json").read_text())} == set()
    net = PyMAF(mesh_body()).eval()
    copy = deepcopy(net)
    left = set(state) - set(pymaf.released_state(net, state)[0])
    assert left == {k for k in state if ".smpl." in k}
    copy.load_state_dict(state)
    assert not torch.equal(net.maf_extractor[1].Dmap, copy.maf_extractor[1].Dmap), "the copy was filled, not the original"
    copy.feature_extractor.features = nets["gain"].feature_extractor.features
    with torch.no_grad(): assert gap(copy(images), truth, "gain") < 1e-5
    free = PyMAF(load_body("free"), "light", hidden=64)
    with pytest.raises(ValueError, match="made with the mesh of free"): free.load_state_dict(state)


def fixture_masks():
    y, x = np.mgrid[:224, :224]
    for i in range(1, 6):
        r = rng(f"sam/mask{i}")
        (cx, cy), rx, ry = r.uniform(70, 150, 2), r.uniform(20, 50), r.uniform(40, 70)
        yield make_mask(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1, f"mask{i}")


def test_bank(images):
    "PyMAF-SAM's numbers from its bank; by chance without a row; never by default."
    ref = np.load(FIXTURES / "pymafsam.npz")
    bank = np.stack([select_points(m, 1000 + i, mode="reference")[0] for i, m in enumerate(fixture_masks(), 1)])
    close(bank, ref["mask_points"], 1e-6)
    net = fill(build(layout="reference", bank=torch.from_numpy(bank)), gain=True)
    assert "points_grid" not in net.state_dict() and [k for k, *_ in json.loads((FIXTURES / "keys_pymafsam.json").read_text()) if "masks" in k]
    with torch.no_grad(): seen = net.feature_extractor.features(images)
    net.feature_extractor.features = lambda x: seen
    with torch.no_grad(): out = net(images, start=int(ref["start"]))
    for k, s in enumerate(out.states):
        for name, got in dict(theta=theta(s), pred_pose=s.pose6d, pred_cam=s.camera, pred_shape=s.betas).items(): close(got, ref[f"g_out{k}_{name}"])
    torch.manual_seed(0)
    with torch.no_grad(): calls = torch.stack([net(images).final.pose6d for _ in range(4)])
    assert (calls - calls[0]).abs().max() > 1e-3, "the published defect: two calls on one image differ"
    with torch.no_grad(): assert torch.equal(net(images, "grid").points[0], uniform_grid())


def test_masks_are_deterministic(nets, images):
    "Points of the image's own mask: the same at every call, other than the grid's, at their place in the crop."
    net, masks = nets["gain"], list(fixture_masks())[:2]
    with torch.no_grad(): a, b, grid = (net(images, m) for m in (masks, torch.stack([torch.from_numpy(m.foreground) for m in masks]), "grid"))
    with torch.no_grad(): again = net(images, masks)
    assert torch.equal(a.final.pose6d, again.final.pose6d)
    for out in (a, b):
        assert (out.final.pose6d - grid.final.pose6d).abs().max() > 1e-3
        for p, m in zip(out.points, masks):
            pixel = ((p + 1) * 112).floor().long().clamp(0, 223)
            assert m.foreground[pixel[:, 1], pixel[:, 0]].sum() == 400
            middle = np.argwhere(m.foreground).mean(0)[::-1] / 112 - 1
            assert np.abs(p[:400].mean(0).numpy() - middle).max() < 0.05


def test_bf16(nets, images):
    "Mixed precision: states in float32, bodies within half a millimetre where the weights are flat."
    net = nets["flat"]
    with torch.no_grad():
        full = net(images)
        with torch.autocast("cpu", torch.bfloat16): half = net(images)
    assert half.final.rotmats.dtype == half.final.camera.dtype == torch.float32
    joints = [mesh_of(net.body, o.final, vertices=False).joints for o in (full, half)]
    assert (joints[0] - joints[1]).norm(dim=-1).mean() * 1000 < 0.5


def test_light_sizes():
    "Feature sizes follow the picture's; nothing assumes 224 px."
    net = PyMAF(load_body("free"), "light", hidden=64, num_points=196).eval()
    seen = []
    for m in net.maf_extractor: m.register_forward_pre_hook(lambda m, args: seen.append(tuple(args[0].shape[2:])))
    with torch.no_grad():
        for size in (112, 96):
            net.size = size
            out = net(torch.randn(1, 3, size, size), points=torch.ones(1, 50, 40, dtype=torch.bool))
            assert out.points.shape == (1, 196, 2) and out.final.rotmats.isfinite().all()
    assert seen == [(14, 14), (28, 28), (56, 56), (12, 12), (24, 24), (48, 48)]
    with pytest.raises(ValueError, match="takes 196 points"): net(torch.randn(1, 3, 96, 96), points=torch.zeros(1, 441, 2))
    with pytest.raises(ValueError, match="square number"): PyMAF(load_body("free"), "light", num_points=440)
