"""Image-to-mesh checkpoints as their training scripts write them: SPIN, mmhuman3d, PyMAF and PyMAF-SAM, at full size."""
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mesh_recipes import draw, fill, mean_params, mesh_body, smpl_arrays

from humanbody.models.checkpoints import load_released
from humanbody.models.hmr import HMR, MeanParams
from humanbody.models.mesh_released import open_mesh_model
from humanbody.models.pymaf import PyMAF
from humanbody.models.resnet import ResNet50

FIXTURES = Path(__file__).parent / "fixtures/mesh"
MEAN = MeanParams(*map(torch.from_numpy, mean_params()))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def keys(name):
    return {k: (tuple(s), getattr(torch, d)) for k, s, d in json.loads((FIXTURES / f"keys_{name}.json").read_text())}


def pymaf_file(name):
    "Return a state dict with the names, shapes and types of a released file (large SMPL buffers cut short), each tensor with its own number."
    a, big = smpl_arrays(), ("posedirs", "lbs_weights", "J_regressor", "J_regressor_extra")
    state = {k: torch.zeros(s[:1] if k.endswith(big) else s, dtype=d) for k, (s, d) in keys(name).items()}
    for n, v in enumerate(state.values()): v.fill_(n / 441 if v.is_floating_point() else n)
    half = [np.sort(np.random.default_rng(k).choice(n, m, replace=False)) for k, (n, m) in enumerate(((6890, 1723), (1723, 431)))]
    index = half[0][half[1]]
    for k, v in state.items():
        if k.endswith("Dmap"): v.zero_()[torch.arange(len(index)), torch.from_numpy(index)] = 1
        elif k.endswith("faces_tensor"): v.copy_(torch.from_numpy(a["f"]))
        elif k.endswith("shapedirs"): v.copy_(torch.from_numpy(a["shapedirs"]))
        elif k.endswith(("init_pose", "init_shape", "init_cam")): v.copy_(MEAN[("init_pose", "init_shape", "init_cam").index(k.rpartition(".")[2])][None])
        elif k == "points_grid":
            line = torch.linspace(-1, 1, 21)
            v.copy_(torch.stack(torch.meshgrid(line, line, indexing="ij")).view(1, 2, -1))
        elif k == "masks_points": v.uniform_(-1, 1)
    return state, torch.from_numpy(index)


@pytest.fixture(scope="module")
def hmr():
    return fill(HMR(mean=MEAN), gain=True).eval()


def test_spin_and_mmhuman3d(hmr, tmp_path):
    state = hmr.state_dict()
    head = ("fc1", "fc2", "decpose", "decshape", "deccam", "init_pose", "init_shape", "init_cam")
    torch.save(dict(model=state, optimizer=dict(state={}, param_groups=[]), epoch=49, batch_idx=3, batch_size=64, dataset_perm=np.arange(7),
                    total_step_count=11), tmp_path / "spin.pt")
    model, report = open_mesh_model(tmp_path / "spin.pt")
    assert report.complete and (report.container, report.ignored, len(report.matched)) == ("model", (), 331)
    assert report.info["epoch"] == 49 and "SPIN layout" in report.reason
    images = torch.from_numpy(draw("spin/img", (2, 3, 224, 224)))
    with torch.no_grad():
        np.testing.assert_allclose(model(images).final.rotmats, np.load(FIXTURES / "spin_hmr.npz")["g_rotmat"], 1e-4, 1e-5)
    other = {("head." if k.split(".")[0] in head else "backbone.") + k: v for k, v in state.items()}
    torch.save(dict(meta={}, state_dict=other | {"body_model_train.shapedirs": torch.zeros(6890, 3, 10), "body_model_test.faces_tensor": torch.zeros(3, 3)}),
               tmp_path / "mmhuman3d.pth")
    report = load_released(model, tmp_path / "mmhuman3d.pth")
    assert report.complete and len(report.ignored) == 2 and "2 buffers of its SMPL model" in report.reason
    torch.save(dict(state, **{"decshape.weight": torch.zeros(300, 1024), "decshape.bias": torch.zeros(300)}), tmp_path / "wide.pt")
    with pytest.warns(UserWarning, match="gives 300 shape coefficients in the file and 10 in the model"): load_released(model, tmp_path / "wide.pt")


@pytest.mark.parametrize("name,points,bank", [("pymaf", "points_grid", False), ("pymafsam", "masks_points", True)])
def test_pymaf(name, points, bank, tmp_path):
    state, index = pymaf_file(name)
    torch.save(dict(model=state, epoch=3), tmp_path / "pymaf.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, report = open_mesh_model(tmp_path / "pymaf.pt", mesh_body())
    assert isinstance(model, PyMAF) and report.complete and (model.layout == "reference") == bank
    body = [k for k in state if ".smpl." in k]
    assert set(report.ignored) == set(body) and len(body) == 36
    assert "36 buffers of its SMPL model are not read" in report.reason and "10 shape directions and the regressor gives 10 coefficients" in report.reason
    own = model.state_dict()
    assert not [k for k in own if "smpl" in k]
    assert set(own) - {"mesh_topology"} == set(state) - set(body)
    for k in own:
        if k.endswith("Dmap"): assert torch.equal(own[k], index)
        elif k in state: assert torch.equal(own[k], state[k]), k
    assert torch.equal(own[points], state[points])


def test_pymaf_other_bodies_and_parts(tmp_path):
    state, _ = pymaf_file("pymaf")
    torch.save(dict(model=state), tmp_path / "pymaf.pt")
    with pytest.raises(ValueError, match="pass body=load_body"): open_mesh_model(tmp_path / "pymaf.pt")
    from humanbody.body import load_body
    with pytest.raises(ValueError, match="pymaf.pt: expected weights made with the mesh of free"): open_mesh_model(tmp_path / "pymaf.pt", load_body("free"))
    backbone = ResNet50()
    report = load_released(backbone, tmp_path / "pymaf.pt")
    assert report.complete and report.renamed == "feature_extractor.* -> *" and torch.equal(backbone.conv1.weight, state["feature_extractor.conv1.weight"])
    plain = {k.removeprefix("feature_extractor."): v for k, v in state.items() if k.startswith("feature_extractor.")} | {"fc.weight": torch.zeros(1000, 2048)}
    torch.save(plain, tmp_path / "resnet50.pth")
    model = PyMAF(mesh_body(), "resnet50")
    with pytest.warns(UserWarning, match="ImageNet ResNet-50 layout"): report = load_released(model, tmp_path / "resnet50.pth")
    assert len(report.matched) == 318 and torch.equal(model.feature_extractor.layer4[2].conv3.weight, plain["layer4.2.conv3.weight"])
