"""The reference's mesh validation routine on a synthetic data set, with and without flip averaging."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_smpl import body_and_regressor

from humanbody.data.h36m import read_2d, read_h36m, split_clips
from humanbody.losses import MeshLoss
from humanbody.metrics import mpjpe, pa_mpjpe, pve
from humanbody.models.dstformer import DSTformer, fill_recipe
from humanbody.models.mesh_lifter import MeshRegressor, flip_average
from humanbody.skeleton import get_skeleton

FIXTURES = Path(__file__).parent / "fixtures/lifting"
SK = get_skeleton("h36m_17")
J14 = [i for i, n in enumerate(SK.joints) if n not in ("root", "spine", "neck_base")]
TERMS = dict(pos="3d_pos", n_mpjpe="3d_scale", velocity="3d_velocity", limb_var="lv", limb_gt="lg", angle="a",
             angle_velocity="av", pose="pose", shape="shape", norm="norm")


@pytest.fixture(scope="module")
def case():
    torch.set_num_threads(1)
    ref = {k: np.asarray(v) for k, v in np.load(FIXTURES / "mesh_dataset_validate.npz").items()}
    body, reg, pose, shape = body_and_regressor(int(ref["smpl_seed"]))
    src = {s: {k[5 + len(s):]: v for k, v in ref.items() if k.startswith(f"src_{s}_")} for s in ("train", "test")}
    split = read_h36m(src)["test"]
    n = int(ref["clip_len"])
    clips = split_clips(split.source, n, n, "reference")
    assert len(clips) == int(ref["n_clips"])
    x = read_2d(split)
    x[..., 2] = x[..., 2].clip(0, 1)
    theta = np.concatenate([src["test"]["smpl_pose"], src["test"]["smpl_shape"]], -1).astype(np.float32)
    config = json.loads(str(ref["config"]))
    config.pop("backbone")
    model = MeshRegressor(DSTformer(**config), body, reg, int(ref["hidden_dim"])).eval()
    fill_recipe(model, float(ref["weight_std"]), skip=lambda k: k in ("head.init_pose", "head.init_shape"))
    model.head.init_pose[0], model.head.init_shape[0] = torch.tensor(pose), torch.tensor(shape)
    return ref, model, torch.from_numpy(x[clips]), torch.from_numpy(theta[clips]), body, reg


def labels(theta, body, reg):
    "Vertices and joints (metres) of the true theta, centred on the regressed root."
    verts = body(theta[..., 72:], theta[..., :72].unflatten(-1, (24, 3))).vertices
    joints = reg(verts)
    return verts - joints[..., :1, :], joints - joints[..., :1, :]


def test_item(case):
    ref, _, x, theta, body, reg = case
    verts, joints = labels(theta[:1], body, reg)
    np.testing.assert_allclose(x[0], ref["item0_motion_2d"], atol=1e-5)
    np.testing.assert_allclose(theta[0], ref["item0_theta"], atol=1e-6)
    np.testing.assert_allclose(joints[0] * 1000, ref["item0_kp_3d"], atol=0.05)
    np.testing.assert_allclose(verts[0][:, ref["vertex_subset"]] * 1000, ref["item0_verts_subset"], atol=0.05)


@pytest.mark.parametrize("flip", [0, 1])
def test_validate(case, flip):
    ref, model, x, theta, body, reg = case
    loss, every = MeshLoss(SK), MeshLoss(SK, dict.fromkeys(TERMS, 1.0))
    sums, total, rows = dict.fromkeys(TERMS, 0.0), 0.0, []
    with torch.no_grad():
        for i in range(0, len(x), 2):
            out = flip_average(model, x[i:i + 2], SK, mode="reference") if flip else model(x[i:i + 2])
            verts, joints = labels(theta[i:i + 2], body, reg)
            args = out.theta, out.joints_mm, theta[i:i + 2], joints * 1000
            total += float(loss(*args)[0]) * len(joints)
            for k, v in every(*args)[1].items():
                sums[k] += float(v) * len(joints)
            pred = out.joints - out.joints[..., :1, :]
            rows.append([mpjpe(pred[..., J14, :], joints[..., J14, :]), pa_mpjpe(pred[..., J14, :], joints[..., J14, :]),
                         pve(out.vertices, verts, out.joints[..., 0, :], joints[..., 0, :])])
    got = [torch.cat([r[k] for r in rows]).mean().item() for k in range(3)]
    want = [ref[f"{k}_flip{flip}"] for k in ("mpjpe14", "pa_mpjpe14", "mpve")]
    np.testing.assert_allclose(got, want, atol=0.05)
    np.testing.assert_allclose(total / len(x), ref[f"loss_avg_flip{flip}"], rtol=1e-4)
    for k, theirs in TERMS.items():
        np.testing.assert_allclose(sums[k] / len(x), ref[f"avg_loss_{theirs}_flip{flip}"], rtol=1e-4, err_msg=k)
