"""Thin people (source note 000): a mirrored sample whose keypoints keep their rows pulls shoulders and hips to the midline. The right flip keeps the widths,
the published wrong one is reproduced here and fails the same check."""
from functools import lru_cache

import numpy as np
import pytest
import torch

from humanbody.body import load_body
from humanbody.data.augment import Augment
from humanbody.fit_people import crop_keypoints_px
from humanbody.image_mesh_data import ImageBatches, ImageMeshConfig
from humanbody.image_mesh_smoke import smoke_image_config
from humanbody.mesh_losses import annotated
from humanbody.models.hmr import MeshState, mesh_of
from humanbody.rotation import rotvec_to_rotmat
from humanbody.skeleton import get_skeleton
from humanbody.spin_joints import spin_joints

SK = get_skeleton("spin_24")
SIDE = 20
WIDTHS = {k: SK.indices([f"Right {k}", f"Left {k}"]) for k in ("Shoulder", "Hip")}
LENGTH = SK.indices(["Neck (LSP)", "Pelvis (MPII)"])


@lru_cache(maxsize=1)
def people(count=2400):
    """Joints (N,24,3) m of the free body in loose poses, seen from the front half, about the pelvis."""
    g = torch.Generator().manual_seed(0)
    pose = 0.15 * torch.randn(count, 24, 3, generator=g)
    pose[:, 0] = 0
    yaw = (torch.rand(count, generator=g) - 0.5) * 1.2
    upright = rotvec_to_rotmat(torch.tensor([np.pi, 0, 0]))
    rot = rotvec_to_rotmat(pose)
    rot[:, 0] = upright @ rotvec_to_rotmat(torch.stack([0 * yaw, yaw, 0 * yaw], -1))
    x = spin_joints(load_body("free"), torch.zeros(count, 10), rot)[:, annotated()]
    return (x - x[:, [SK.idx("Pelvis (MPII)")]]).numpy()


def heat(x):
    """Pictures (N,SIDE*SIDE): a blob per joint, none of them labelled."""
    grid = np.linspace(-1.1, 1.1, SIDE)
    far = lambda a: np.exp(-((a[:, :, None] - grid) ** 2) / 0.012)
    return np.einsum("njy,njx->nyx", far(x[..., 1]), far(x[..., 0])).reshape(len(x), -1).astype("f4").clip(0, 1)


def mirrored(x, rows_too):
    """The mirrored joints; with rows_too=False left and right keep their rows, as in the published `flip_kp` without tables."""
    return Augment(flip=True).joints3d(x, SK) if rows_too else x * np.array([-1, 1, 1], np.float32)


def learn(rows_too, steps=500):
    """Train an MLP from pictures to joints on half mirrored batches; widths and torso length of new people over the truth, and the MPJPE in mm."""
    torch.manual_seed(0)
    x, new = people()[:2000], people()[2000:]
    pictures, flipped = heat(x), heat(x * np.array([-1, 1, 1], np.float32))
    y, z = x, mirrored(x, rows_too).astype(np.float32)
    net = torch.nn.Sequential(torch.nn.Linear(SIDE * SIDE, 192), torch.nn.ReLU(), torch.nn.Linear(192, 192), torch.nn.ReLU(), torch.nn.Linear(192, 72))
    opt, rng = torch.optim.Adam(net.parameters(), 2e-3), np.random.default_rng(0)
    for step in range(steps):
        for group in opt.param_groups: group["lr"] = 2e-3 * (1 - step / steps)
        k, m = rng.integers(len(x), size=128), rng.random(128) < 0.5
        a = torch.from_numpy(np.where(m[:, None], flipped[k], pictures[k]))
        b = torch.from_numpy(np.where(m[:, None, None], z[k], y[k]).astype("f4"))
        opt.zero_grad()
        (net(a).view(-1, 24, 3) - b).square().mean().backward()
        opt.step()
    with torch.no_grad(): p = net(torch.from_numpy(heat(new))).view(-1, 24, 3).numpy()
    span = lambda v, ij: np.linalg.norm(v[:, ij[0]] - v[:, ij[1]], axis=-1).sum()
    out = {k: span(p, ij) / span(new, ij) for k, ij in WIDTHS.items()} | dict(torso=span(p, LENGTH) / span(new, LENGTH))
    return out, 1000 * np.linalg.norm(p - new, axis=-1).mean()


def thin(ratios, most=0.05):
    """Name the widths that are off by more than 5 %."""
    return [k for k in WIDTHS if abs(ratios[k] - 1) > most]


def test_the_right_flip_keeps_widths_and_the_wrong_one_makes_people_thin():
    torch.set_num_threads(1)
    right, good = learn(True)
    wrong, bad = learn(False)
    print("right", right, good, "wrong", wrong, bad)
    assert thin(right) == [] and abs(right["torso"] - 1) < 0.05
    assert thin(wrong) == ["Shoulder", "Hip"]  # the same check fails
    assert max(wrong[k] for k in WIDTHS) < 0.5 and abs(wrong["torso"] - 1) < 0.06  # thin, not short
    assert bad > 1.4 * good


def agreement(batch, permute):
    """Largest distance, in crop px and mm, between keypoint labels and the joints of the labelled body, over people seen wholly."""
    body = load_body("free")
    state = MeshState(torch.empty(0), rotvec_to_rotmat(batch["pose"].view(len(batch["pose"]), -1, 3)), batch["betas"], torch.empty(0))
    mesh = mesh_of(body, state, vertices=False).joints[:, annotated()]
    label = batch["joints3d"][..., :3].clone()
    if not permute: label[batch["flip"]] = label[batch["flip"]][:, SK.flip_perm]  # rows as the published code leaves them
    centre = lambda x: x - x[:, [SK.idx("Pelvis (MPII)")]]
    return 1000 * (centre(mesh) - centre(label)).norm(dim=-1).nan_to_num().amax(1)


def test_labels_of_every_training_batch_agree_with_the_body(tmp_path):
    """Picture, 2D, 3D and pose of a flipped and turned sample say the same; with the wrong flip the labels leave the body."""
    torch.set_num_threads(1)
    c = smoke_image_config(ImageMeshConfig(stores={"synthetic": dict(store="a", root="b")}, recipe="spin"), tmp_path)
    batch = ImageBatches(c).batch(0, 0)
    for epoch in range(1, 4): batch = {k: torch.cat([batch[k], v]) if v.ndim else v for k, v in ImageBatches(c).batch(epoch, 0).items()}
    assert 4 < batch["flip"].sum() < 20
    right, wrong = agreement(batch, True), agreement(batch, False)
    assert right.max() < 15
    assert (wrong[batch["flip"]] > 100).all() and wrong[~batch["flip"]].max() < 15
    px = crop_keypoints_px(batch["keypoints2d"])[:, annotated()]
    flat, solid = px[..., :2], batch["joints3d"][..., :3]
    ij = WIDTHS["Shoulder"]
    both = torch.isfinite(flat[:, ij]).flatten(1).all(1)
    assert (torch.sign(flat[:, ij[0], 0] - flat[:, ij[1], 0]) == torch.sign(solid[:, ij[0], 0] - solid[:, ij[1], 0]))[both].float().mean() > 0.9


@pytest.mark.parametrize("flip", [False, True])
def test_flip_twice_is_the_identity_and_commutes_with_the_body(flip):
    body, g = load_body("free"), torch.Generator().manual_seed(1)
    pose = 0.3 * torch.randn(3, 72, generator=g)
    a = Augment(flip=flip)
    np.testing.assert_allclose(a.pose(a.pose(pose.numpy())), pose.numpy(), atol=1e-6)
    joints = lambda p: spin_joints(body, torch.zeros(3, 10), torch.as_tensor(p).view(3, 24, 3))[:, annotated()].numpy()
    np.testing.assert_allclose(joints(a.pose(pose.numpy())), a.joints3d(joints(pose), SK), atol=2e-3 if flip else 1e-6)
