"""Every training recipe: its file is a valid configuration with the published numbers, and it trains and validates in miniature."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from humanbody.config import TrainConfig, load_config, place_paths
from humanbody.data.flat_views import flat_view_store
from humanbody.data.store import MotionStore
from humanbody.models.dstformer import DSTformer
from humanbody.plots import plot_history
from humanbody.runner import check_params, read_params
from humanbody.runs import project_path
from humanbody.skeleton import get_skeleton, root_position
from humanbody.smoke import SMALL, smoke_config, smoke_store
from humanbody.training import TASKS, fit, initial_model

PARAMS = project_path("nbs/runs/params")
NAMES = sorted(p.stem for p in PARAMS.glob("*train_*.yaml") if {"training", "store"} <= set(v := read_params(p)) and v["store"])
POSE, MESH = dict(mpjpe=1.0, n_mpjpe=0.5, velocity=20.0), dict(pos=0.5, velocity=10.0, pose=1000.0, shape=1.0, norm=20.0)
BASE, LITE = dict(dim_feat=512, mlp_ratio=2, depth=5), dict(dim_feat=256, mlp_ratio=4, depth=5)
# epochs, batch, lr, decay per epoch, (clip, stride) of the published runs; then what differs from the default recipe
H36M, GLOBAL = (120, 32, 2e-4, 0.99, (243, 81)), dict(rootrel=False)
PRE = dict(task="pretrain", synthetic_2d=True, noise=0.03, mask_joint=0.05, mask_frame=0.1, start_2d=30)
ANGLES = POSE | dict(angle=0.5, angle_velocity=0.5)
FT = (60, 128, 5e-5, 0.98, (16, 8)), dict(task="mesh", losses=MESH, head_lr=5e-4)
V17, V37, V66 = ((200, 128, 1e-4, 0.99, (16, 8)), (200, 128, 1e-4, 0.99, (16, 8)), (100, 180, 1e-4, 0.98, (16, 8)))
VMESH = dict(task="mesh", losses=MESH)
GENDERED = dict(VMESH, bodies=dict(female="data/smpl", male="data/smpl"))
PUBLISHED = {
    "train_lifter_h36m": (H36M, {}),
    "train_lifter_h36m_finetune": ((60, *H36M[1:]), {}),
    "train_lifter_h36m_global": ((60, *H36M[1:]), GLOBAL),
    "train_lifter_h36m_global_lite": ((60, 32, 5e-4, 0.99, (243, 81)), GLOBAL),
    "train_lifter_h36m_global_scratch": (H36M, GLOBAL),
    "train_lifter_h36m_no_confidence": (H36M, dict(confidence=False)),
    "train_lifter_h36m_gt2d": ((60, *H36M[1:]), dict(gt_2d=True)),
    "train_lifter_h36m_downsampled": ((*H36M[:4], (243, 243)), dict(clip_step=2)),
    "pretrain_lifter_base": ((90, 64, 5e-4, 0.99, (243, 81)), PRE),
    "pretrain_lifter_lite": ((90, 64, 5e-4, 0.99, (243, 81)), PRE),
    "pretrain_lifter_amass": ((90, 64, 5e-4, 0.99, (243, 81)), dict(PRE, task="lifting")),
    "train_lifter_vehs_17": ((60, *H36M[1:]), dict(skeleton="vehs_17")),
    "train_lifter_rtm_24_config2": (H36M, dict(skeleton="rtm_24_config2")),
    "train_lifter_rtm_24_config5": (H36M, dict(skeleton="rtm_24_config5")),
    "train_lifter_rtm_24_config6": (H36M, dict(skeleton="rtm_24")),
    "train_lifter_rtm_37": (H36M, dict(skeleton="rtm_37")),
    "train_lifter_rtm_37_angles": (H36M, dict(skeleton="rtm_37", losses=ANGLES)),
    "train_lifter_vehs_66_raw": ((120, 12, *H36M[2:]), dict(skeleton="vehs_66")),
    "train_lifter_vehs_66_processed": ((120, 12, *H36M[2:]), dict(skeleton="vehs_66")),
    "train_lifter_vehs_66_angles": ((120, 12, *H36M[2:]), dict(skeleton="vehs_66", losses=ANGLES | dict(limb_var=0.5, limb_gt=0.5))),
    "train_lifter_vehs_66_v1_gt2d": ((60, 10, *H36M[2:]), dict(skeleton="vehs_66_v1", gt_2d=True, flip=False)),
    "train_lifter_hand_21": ((120, 16, *H36M[2:]), dict(skeleton="hand_21", flip=False, noise=0.03, mask_joint=0.05, mask_frame=0.1)),
    "train_mesh_h36m_finetune": FT,
    "train_mesh_pw3d_finetune": FT,
    "train_mesh_h36m_scratch": ((100, 128, 1e-4, 0.98, (16, 8)), VMESH),
    "train_mesh_vehs_17": (V17, VMESH), "train_mesh_vehs_17_gendered": (V17, GENDERED),
    "train_mesh_vehs_37": (V37, dict(VMESH, skeleton="rtm_37")), "train_mesh_vehs_37_gendered": (V37, dict(GENDERED, skeleton="rtm_37")),
    "train_mesh_vehs_66": (V66, dict(VMESH, skeleton="vehs_66", gt_2d=True)),
    "train_mesh_vehs_66_gendered": (V66, dict(GENDERED, skeleton="vehs_66", gt_2d=True)),
}
DECIDES = ("rootrel", "flip", "gt_2d", "synthetic_2d", "confidence", "noise", "mask_joint", "mask_frame", "clip_step", "losses", "task", "head_lr", "weight_decay", "clip_grad", "accumulate")


def config_of(name: str, **kw) -> TrainConfig:
    return load_config(dict(read_params(PARAMS / f"{name}.yaml")["training"], data="somewhere", **kw))


def test_every_published_run_has_a_recipe():
    """The table above and the folder agree; a recipe that stands in neither would not be checked."""
    assert set(PUBLISHED) <= set(NAMES)
    assert {n for n in NAMES if n not in PUBLISHED} <= {"train_hypergraph_h36m"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_the_published_ones(name):
    (epochs, batch, lr, decay, clip), more = PUBLISHED[name]
    c, default = config_of(name), load_config(dict(data="x", target="image"))
    assert (c.epochs, c.batch_size, c.lr, c.lr_decay, (c.clip_length, c.clip_stride)) == (epochs, batch, lr, decay, clip)
    want = {k: getattr(default, k) for k in DECIDES} | {k: v for k, v in more.items() if k in DECIDES}
    assert {k: getattr(c, k) for k in DECIDES} == want
    assert c.weight_decay == 0.01 and c.input == c.target == "image" and c.precision == "32-true"
    for k in ("skeleton", "bodies", "start_2d"):
        if k in more: assert getattr(c, k) == more[k]
    size = LITE if "lite" in name else BASE
    assert c.model == "dstformer" and size.items() <= c.model_args.items() and c.model_args["maxlen"] >= c.clip_length
    assert bool(c.weights) == ("scratch" not in name and name not in (
        "train_lifter_h36m", "train_lifter_h36m_no_confidence", "train_lifter_h36m_downsampled", "train_lifter_hand_21") and not name.startswith("pretrain"))


@pytest.mark.parametrize("name", NAMES)
def test_file_is_valid(name):
    """The notebook has every parameter, the results go to a folder of the recipe's name, and no path leaves the project."""
    values = read_params(PARAMS / f"{name}.yaml")
    check_params(project_path("nbs/runs/train_lifter.ipynb"), values)
    assert values["name"] == name and values.get("out", f"figures/{name}") == f"figures/{name}" and not Path(values["store"]).is_absolute()
    seen = []
    place_paths(values["training"], lambda p: seen.append(Path(p)) or p)
    assert all(not p.is_absolute() and p.parts[0] == "data" for p in seen)


def released(path, c: TrainConfig, source: str = "h36m_17") -> str:
    """A checkpoint in the layout of the released ones, of the small model's size."""
    torch.manual_seed(3)
    model = DSTformer(num_joints=get_skeleton(source).num_joints, **SMALL["dstformer"])
    torch.save({"epoch": 90, "lr": 1e-4, "model_pos": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    return str(path)


@pytest.mark.filterwarnings("ignore:.*the file lacks head")
@pytest.mark.parametrize("name", NAMES)
def test_trains_in_miniature(name, tmp_path):
    """Two epochs of a tiny model on invented data of the recipe's joint set, through the loop of the real run, from weights where the recipe starts from some."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    real = config_of(name, seed=1)
    small = smoke_config(real, tmp_path)
    assert {k: getattr(small, k) for k in DECIDES if k != "accumulate"} == {k: getattr(real, k) for k in DECIDES if k != "accumulate"}
    if real.weights: small = replace(small, weights=released(tmp_path / "mb.bin", small), weights_skeleton=real.weights_skeleton)
    task = TASKS[small.task](small)
    if real.weights: check_start(small, task)
    result = fit(small, task, progress=False)
    first, last = result.history[0], result.history[-1]
    assert len(result.history) == 2 and first["steps"] >= 2
    if real.data_2d: assert "loss_2d" not in first["train"] and last["train"]["loss_2d"] > 0 and last["steps"] > first["steps"]
    terms = {k for k in last["train"] if k not in ("total", "grad_norm", "loss_2d")}
    assert terms == set(real.losses)
    numbers = [v for h in result.history for v in (*h["train"].values(), *h["val"].values())]
    assert np.isfinite(numbers).all()
    assert set(last["val"]) >= ({"mpjpe_mm", "pa_mpjpe_mm", "loss"} if real.val_split else set())
    np.testing.assert_allclose(last["lr"], real.lr * real.lr_decay)
    if real.head_lr:
        groups = torch.load(result.out / "last.pt", weights_only=True)["optimizer"]["param_groups"]
        np.testing.assert_allclose([g["lr"] for g in groups], np.array([real.lr, real.head_lr]) * real.lr_decay)


def check_start(small: TrainConfig, task) -> None:
    """The run starts at the file's weights: all of the backbone, and position rows of joints the file knows."""
    state = torch.load(small.weights, weights_only=True)["model_pos"]
    model = initial_model(small, task)
    backbone = getattr(model, "backbone", model)
    own = backbone.state_dict()
    differ = {k for k, v in own.items() if v.shape != state[f"module.{k}"].shape or not torch.equal(v, state[f"module.{k}"])}
    assert differ <= {"pos_embed"}
    sk = get_skeleton(small.skeleton)
    elbow = next((j for j in ("RELBOW", "right_elbow") if sk.has(j)), None)
    if elbow: torch.testing.assert_close(own["pos_embed"][0, sk.idx(elbow)], state["module.pos_embed"][0, get_skeleton("h36m_17").idx("right_elbow")])


def test_confidence_ground_truth_and_projection(tmp_path):
    """What the input switches feed: detections, detections of confidence 1, the projected truth always, or for training alone."""
    smoke_store(tmp_path / "store", "rtm_24")
    base = dict(data=str(tmp_path / "store"), skeleton="rtm_24", target="image", val_split="validation", clip_length=9, clip_stride=9, flip=False, batch_size=4)
    give = {k: TASKS["lifting"](load_config(base, **v)) for k, v in dict(seen={}, sure=dict(confidence=False), exact=dict(gt_2d=True), train=dict(synthetic_2d=True)).items()}
    x = {k: (t.batch(0, 0)["x"], t.tensors(t.val, np.arange(2))["x"]) for k, t in give.items()}
    assert x["seen"][0][..., 2].max() <= 1 and x["seen"][0][..., 2].std() > 0.1
    for i in (0, 1):
        torch.testing.assert_close(x["sure"][i][..., :2], x["seen"][i][..., :2])
        assert (x["sure"][i][..., 2] == 1).all() and (x["exact"][i][..., 2] == 1).all()
    torch.testing.assert_close(x["train"][0], x["exact"][0])
    torch.testing.assert_close(x["train"][1], x["seen"][1])
    y = give["exact"].batch(0, 0)["y"]  # root-relative in every frame, so the input differs by the root alone
    torch.testing.assert_close(x["exact"][0][..., :2] - root_position(x["exact"][0], give["exact"].joints)[..., :2], y[..., :2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("step, length, stride", [(1, 9, 3), (2, 9, 9), (5, 5, 1)])
def test_clip_length_stride_and_step(tmp_path, step, length, stride):
    """Clip k of a view starts k*stride clip frames in, its frames are `step` camera frames apart."""
    store = smoke_store(tmp_path / "store", "h36m_17", frames=60)
    task = TASKS["lifting"](load_config(dict(data=str(store.path), target="image", clip_length=length, clip_stride=stride, clip_step=step, flip=False)))
    per_view = 1 + (60 - (length - 1) * step - 1) // (stride * step)
    assert len(task.clips) == 4 * per_view
    x = task.tensors(task.clips, np.array([1]))["x"][0, :, 0]
    kp = store.array("kp2d/h36m_17")[stride * step:stride * step + (length - 1) * step + 1:step, 0]
    np.testing.assert_allclose(x[:, 2], kp[:, 2], rtol=1e-6)
    np.testing.assert_allclose(x[:, 0], kp[:, 0] * 2 / 1000 - 1, atol=1e-6)


def test_motion_without_pictures_trains_any_skeleton(tmp_path):
    """Motion capture alone, no 2D array in the store, 66 points: the loss falls."""
    torch.set_num_threads(1)
    source = smoke_store(tmp_path / "mocap", "vehs_66")
    flat = flat_view_store(source, tmp_path / "flat", "vehs_66")
    assert not any(k.startswith("kp2d") for k in MotionStore(flat.path).arrays)
    small = replace(smoke_config(config_of("pretrain_lifter_amass"), tmp_path / "s"), data=str(flat.path), skeleton="vehs_66", epochs=30, lr=1e-2, noise=0.0, mask_joint=0.0, mask_frame=0.0, out=str(tmp_path / "run"))
    history = fit(small, progress=False).history
    assert history[-1]["train"]["total"] < 0.7 * history[0]["train"]["total"]


def test_curves_show_both_losses(tmp_path):
    """The training total and the validation total are drawn in one panel."""
    torch.set_num_threads(1)
    result = fit(smoke_config(config_of("train_lifter_vehs_66_angles"), tmp_path), progress=False)
    fig = plot_history(result.history, "curves")
    labels = [line.get_label() for line in fig.axes[0].get_lines()]
    assert {"total", "total, validation", "angle", "limb_gt"} <= set(labels)
    assert {line.get_label() for line in fig.axes[1].get_lines()} == {"mpjpe_mm", "pa_mpjpe_mm"}
