"""HMR with every backbone: copies, half precision, local ViT weights, bad input."""
import copy
import pickle

import numpy as np
import pytest
import torch

from humanbody.body import load_body
from humanbody.models.hmr import HMR, Regressor, cameras_of, make_state, mean_params, mesh_of, project
from humanbody.models.resnet import make_backbone
from humanbody.skeleton import get_skeleton

TINY = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=64, patch_size=16)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def close(a, b, atol):
    for name in ("rotmats", "betas", "camera"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=0)


@pytest.mark.parametrize("backbone,options", [("light", {}), ("light_joints", {}), ("vit", TINY)])
def test_copies_and_gradients(backbone, options):
    model = HMR(backbone, size=64, hidden=64, **options).eval()
    x = torch.randn(2, 3, 64, 64)
    out = model(x)
    assert len(out.states) == 3 and out.final is out.states[-1] and out.dense is None and out.points is None
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))): close(other(x).final, out.final, 0)
    fresh = HMR(backbone, size=64, hidden=64, **options).eval()
    fresh.load_state_dict(model.state_dict())
    close(fresh(x).final, out.final, 0)
    (out.final.rotmats.square() * torch.randn(24, 3, 3)).sum().backward()
    used = {k for k, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    rest = {k for k, _ in model.named_parameters()} - used
    assert all(k.startswith(("decshape", "deccam", "vit.embeddings.mask")) or "key.bias" in k for k in rest), rest


def test_half_precision():
    model = HMR("light", size=64, hidden=64).eval()
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): half = model(x).final
    assert half.rotmats.dtype == torch.float32
    with torch.no_grad(): close(half, model(x).final, 2e-2)
    eye = half.rotmats @ half.rotmats.transpose(-1, -2)
    torch.testing.assert_close(eye, torch.eye(3).expand_as(eye), atol=1e-5, rtol=0)


def test_vit_from_a_folder(tmp_path):
    source = make_backbone("vit", **TINY).eval()
    source.vit.save_pretrained(tmp_path)
    x = torch.randn(1, 3, 64, 64)
    again = make_backbone("vit", weights=tmp_path).eval()
    torch.testing.assert_close(again(x).pooled, source(x).pooled)
    assert again.size == 64 and again.channels == 32


def test_bad_input(tmp_path):
    model = HMR("light")
    for shape in ((1, 3, 224, 224), (1, 1, 112, 112), (3, 112, 112), (1, 112, 112, 3)):
        with pytest.raises(ValueError, match=r"expected images \(B,3,112,112\)"): model(torch.zeros(shape))
    with pytest.raises(ValueError, match="use normalise_image"): model(torch.zeros(1, 3, 112, 112, dtype=torch.uint8))
    with pytest.raises(FileNotFoundError): HMR("light", mean=tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ValueError, match="broken.npz"): HMR("light", mean=tmp_path / "broken.npz")
    np.savez(tmp_path / "nan.npz", pose=np.full(144, np.nan, np.float32), shape=np.zeros(10, np.float32), cam=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"finite pose \(144,\)"): mean_params(tmp_path / "nan.npz")


def test_upright_in_the_crop():
    "The mean body of the regressor stands upright in the crop and in the picture: y grows downwards."
    state = Regressor(4).eval().start(2)
    mesh = mesh_of(load_body("free"), state)
    xy = project(mesh.joints, state.camera)
    from humanbody.skeleton import get_skeleton
    sk = get_skeleton("spin_49")
    top, ankle, left = sk.idx("Top of Head (LSP)"), sk.idx("Left Ankle"), sk.idx("Left Wrist")
    assert (xy[:, top, 1] < xy[:, ankle, 1] - 1.2).all() and (xy[:, left, 0] > 0).all() and xy.abs().max() < 1.3
    cameras = cameras_of(state, torch.tensor([[300.0, 200], [100, 100]]), torch.tensor([1.0, 2]), (640, 480))
    px = cameras.project_px(mesh.joints)
    box = torch.tensor([[300.0, 200], [100, 100]])[:, None] + xy * torch.tensor([100.0, 200])[:, None, None]
    assert (px - box).abs().max() < 0.15 * 400 # perspective of a near camera
    assert (px[:, top, 1] < px[:, ankle, 1]).all()
    assert make_state(state.pose6d.half(), state.betas, state.camera).rotmats.dtype == torch.float32


def test_mmpose_projection():
    "mmpose's pixels about the centre are the crop units times half the crop."
    from pathlib import Path

    from mesh_recipes import draw, rng
    ref = np.load(Path(__file__).parent / "fixtures/mesh/hmr_mmpose.npz")["proj"]
    camera = np.stack([rng("mml/s").uniform(0.5, 1.1, 4), rng("mml/tx").uniform(-0.2, 0.2, 4), rng("mml/ty").uniform(-0.2, 0.2, 4)], 1)
    points = torch.from_numpy(draw("mml/pj", (4, 24, 3)) * np.float32(0.4))
    np.testing.assert_allclose(project(points, torch.from_numpy(camera.astype(np.float32))) * 112, ref, 1e-5, 1e-4)


def test_cells_of_joints_only_in_training():
    """The backbone with joints says its maps while it learns; a step on them alone moves the mean places towards the keypoints."""
    from humanbody.joint_cells import joint_cells
    from humanbody.models.resnet import mean_places
    model = HMR("light_joints", size=64, hidden=32)
    assert model.eval()(torch.randn(2, 3, 64, 64)).dense is None
    x, joints = torch.randn(4, 3, 64, 64), get_skeleton("spin_24").num_joints
    goal = torch.cat([torch.rand(4, joints, 2) * 1.6 - 0.8, torch.ones(4, joints, 1)], -1)
    opt = torch.optim.Adam(model.train().parameters(), 3e-3)
    far = []
    for _ in range(30):
        cells = model(x).dense["cells"]
        far.append(float((mean_places(cells)[0] - goal[..., :2]).norm(dim=-1).mean()))
        opt.zero_grad()
        joint_cells(cells, goal).value.backward()
        opt.step()
    assert far[-1] < 0.5 * far[0], far[::10]


def test_the_shipped_model_beats_the_mean_body_on_new_people(tmp_path):
    """The small model of the package on pictures of people that no set holds: its error is far below that of the mean body, and near its card's."""
    from humanbody.data.image_scene_store import make_image_store
    from humanbody.data.image_scenes import SceneOptions
    from humanbody.image_mesh_data import ImageMeshConfig, open_set
    from humanbody.image_mesh_task import mesh_errors, predict_rows
    from humanbody.models.mesh_files import load_mesh_model
    from humanbody.spin_joints import spin_body
    body, model = spin_body(load_body()), load_mesh_model()
    options = SceneOptions(size_px=128, fill=(0.8, 0.95), occluders=0.0, clutter=0.0, per_subject=2)
    store = make_image_store(tmp_path, 24, "test", 987, 5000, options)
    entry = dict(store=str(store.path), root=str(tmp_path))
    data = open_set(ImageMeshConfig(stores=dict(a=entry), res=model.spec.size, mode="fast"), entry, False)
    (batch, found), = predict_rows(model.net, data, range(24))
    error, plain = (mesh_errors(body, s, batch["pose"], batch["betas"])["mpjpe"].mean() for s in (found, make_state(*(x.expand(24, -1) for x in mean_params()))))
    said = model.card["test"]["test_plain"]["mpjpe_mm"]
    assert error < 0.7 * plain and 0.6 * said < error < 1.5 * said, (error, plain, said)
