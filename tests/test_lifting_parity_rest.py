"""What the notebooks leave of the lifting fixtures: every weight scale of every model, and the arrays no notebook asserts."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from humanbody.data.tracks import convert_keypoints, read_keypoints, wild_input
from humanbody.losses import _angle_difference
from humanbody.metrics import pve
from humanbody.models.action_head import ActionNet
from humanbody.models.checkpoints import load_released
from humanbody.models.dstformer import DSTformer, fill_recipe
from humanbody.models.model_table import mesh_network
from humanbody.models.motionagformer import motionagformer, released_keys
from humanbody.rotation import rotmat_to_rotvec, rotvec_to_rotmat
from humanbody.skeleton import flip, get_skeleton

ROOT = Path(__file__).parent.parent
FIXTURES = Path(__file__).parent / "fixtures/lifting"
KEYS = json.loads((FIXTURES / "state_dict_keys.json").read_text())
H36M = get_skeleton("h36m_17")


def fixture(name):
    return {k: np.asarray(v) for k, v in np.load(FIXTURES / f"{name}.npz").items()}


def config_of(ref):
    config = json.loads(str(ref["config"]))
    config.pop("backbone")
    return config


@pytest.mark.parametrize("name,tolerance", [
    ("small17", {"std02": 2e-6, "std20": 5e-4}), ("small24", {"std02": 2e-6, "std20": 5e-4}),
    ("small66", {"std02": 2e-6, "std20": 5e-4}), ("lite17_T27", {"std02": 2e-6, "std08": 1e-4})])
def test_dstformer_both_gains(name, tolerance):
    ref = fixture(f"dstformer_{name}")
    assert {k[4:] for k in ref if k.startswith("out_")} == set(tolerance)
    model, x = DSTformer(**config_of(ref)).eval(), torch.from_numpy(ref["x"])
    for gain, limit in tolerance.items():
        fill_recipe(model, int(gain[3:]) / 100)
        with torch.no_grad():
            out, rep = model(x).numpy(), model(x, return_rep=True).numpy()[:, ::int(ref["rep_frame_step"])]
        assert np.abs(out - ref[f"out_{gain}"]).max() <= limit
        assert np.abs(rep - ref[f"rep_{gain}"]).max() <= limit


def built(name):
    "Build the model a key list belongs to, on no device."
    small, lite = dict(dim_feat=64, dim_rep=128, depth=2), dict(dim_feat=256, mlp_ratio=4)
    short = dict(lite, maxlen=KEYS["lite17_T27"]["temp_embed"][0][1])
    sizes = dict(small17=(17, small), small24=(24, small), small66=(66, small), lite17=(17, lite), lite17_T27=(17, short),
                 base17=(17, {}), base24=(24, {}), base66=(66, {}))
    tiny = DSTformer(17, 64, 32, 2) if name.startswith("action") else None
    others = dict(mesh_small17=lambda: mesh_network(17, 256, **small), mesh_base17_hidden1024=lambda: mesh_network(17),
                  action_class=lambda: ActionNet(tiny, num_classes=60), action_embed=lambda: ActionNet(tiny, embed_dim=128))
    return others[name]() if name in others else DSTformer(sizes[name][0], **sizes[name][1])


@pytest.mark.parametrize("name", KEYS)
def test_state_dict_keys(name):
    with torch.device("meta"):
        model = built(name)
    got = {k: [list(v.shape), str(v.dtype).split(".")[-1]] for k, v in model.state_dict().items()}
    want = {k: v for k, v in KEYS[name].items() if ".smpl." not in k}  # bodies stay out of our checkpoints
    assert got == want
    if "mesh" not in name:
        assert list(got) == list(want)  # an optimiser state refers to parameters by position


@pytest.mark.parametrize("rootrel", [0, 1])
@pytest.mark.parametrize("pixel", [0, 1])
def test_in_the_wild(rootrel, pixel):
    ref = fixture("infer_wild")
    model = fill_recipe(DSTformer(**config_of(ref)), float(ref["weight_std"])).eval()
    size, T = tuple(ref["vid_size"].tolist()), int(ref["clip_len"])
    kp = read_keypoints(FIXTURES / "alphapose.json", size=size, fps=30, person=int(ref["focus"]))
    x = torch.from_numpy(wild_input(convert_keypoints(kp, H36M, "mean"), "pixel" if pixel else "scale")).float()
    parts = []
    with torch.no_grad():
        for chunk in x.split(T):
            out = (model(chunk) + flip(model(flip(chunk, H36M)), H36M)) / 2
            if rootrel:
                out[:, H36M.root] = 0
            else:
                out[0, H36M.root, 2] = 0
            parts.append(out)
    got = torch.cat(parts).numpy()
    if pixel:
        got = got * (min(size) / 2)
        got[..., :2] += np.array(size) / 2
    assert np.abs(got - ref[f"X3D_rootrel{rootrel}_pixel{pixel}"]).max() <= (0.5 if pixel else 1e-3)


def test_axis_angles_of_matrices():
    ref = fixture("rotations")
    got, want = rotmat_to_rotvec(torch.from_numpy(ref["batch_rodrigues"])), torch.from_numpy(ref["rotmat_to_axis_angle"])
    near_pi = want.norm(dim=-1) > np.pi - 0.01
    assert (got - want)[~near_pi].abs().max() <= 1e-5
    assert (rotvec_to_rotmat(got) - rotvec_to_rotmat(want))[near_pi].abs().max() <= 2e-3
    assert 1 <= near_pi.sum() <= 4


def test_cosine_of_angle_differences():
    ref = fixture("fork_formats")
    got = _angle_difference(torch.from_numpy(ref["ang1"]), torch.from_numpy(ref["ang2"]), "cosine").mean()
    assert abs(float(got) - float(ref["angle_cos_diff"])) <= 1e-5


def test_mesh_errors_of_a_batch():
    ref = fixture("mesh_loss")
    r = np.random.default_rng(int(ref["rng_seed"]))
    for name in ("theta_gt", "theta_pred", "kp_gt", "kp_pred"):
        r.standard_normal(ref[name].shape)
    shape = (*ref["kp_gt"].shape[:2], 6890, 3)
    gt = (r.standard_normal(shape) * 300).astype(np.float32)
    pred = (gt + r.standard_normal(shape).astype(np.float32) * np.float32(25)).astype(np.float32)
    np.testing.assert_array_equal(gt[0, 0, :3], ref["verts_gt_first"])
    roots = (torch.from_numpy(ref[k][..., H36M.root, :]) / 1000 for k in ("kp_pred", "kp_gt"))
    got = pve(torch.from_numpy(pred) / 1000, torch.from_numpy(gt) / 1000, *roots).mean()
    np.testing.assert_allclose(float(got), float(ref["compute_error_mpve"]), rtol=1e-4)


def test_every_fixture_is_used():
    "Each file of the folder is named in code of a notebook or of a test (model files by a pattern of their names)."
    code = "\n".join("".join(c["source"]) for p in sorted((ROOT / "nbs").glob("*.ipynb"))
                     for c in json.loads(p.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code")
    code += "\n".join(p.read_text(encoding="utf-8") for p in sorted(Path(__file__).parent.glob("test_*.py")))
    patterns = {"dstformer": "dstformer_{name}.npz", "trainstep": "trainstep_rootrel_{rootrel}.npz"}
    files = [p.name for p in FIXTURES.iterdir() if p.suffix in (".npz", ".json")]
    assert len(files) == 20
    unused = [n for n in files if patterns.get(n.split("_")[0], n) not in code]
    assert unused == []


def test_released_motionagformer_names(tmp_path):
    "A file with the published names (on a GPU: under `module.`) fills a model completely; another clip length is said."
    shapes = released_keys("xs")
    state = {f"module.{k}": torch.zeros(s, dtype=torch.int64) if k.endswith("tracked") else torch.rand(s) for k, s in shapes.items()}
    torch.save(dict(epoch=60, lr=5e-4, optimizer=None, model=state, min_mpjpe=45.1), tmp_path / "motionagformer-xs-h36m.pth.tr")
    model = motionagformer("h36m_17", "xs", graph="released")
    report = load_released(model, tmp_path / "motionagformer-xs-h36m.pth.tr")
    assert report.complete and len(report.matched) == len(shapes) and report.container == "model"
    assert torch.equal(model.layers[3].graph_temporal.mixer.V.weight, state["module.layers.3.graph_temporal.mixer.V.weight"])
    with pytest.warns(UserWarning, match=r"\(27,\) in the file, \(9,\) in the model"):
        other = load_released(motionagformer("h36m_17", "xs", 9), tmp_path / "motionagformer-xs-h36m.pth.tr")
    assert len(other.mismatched) == 12 * 4 and all("graph_temporal.mixer.batch_norm" in k for k in other.mismatched)
