"""Limb, angle and angle-velocity losses come from the skeleton's own tree: the same checks on 17, 24, 66 and 21 hand points and five invented ones."""
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from small_files import five_joints

from humanbody.losses import PoseLoss, limb_angles, limb_lengths, loss_angle, loss_angle_velocity, loss_limb_gt, loss_limb_var
from humanbody.rotation import euler_to_rotmat
from humanbody.skeleton import flip, get_skeleton

WEIGHTS = dict(limb_var=0.5, limb_gt=0.5, angle=0.5, angle_velocity=0.5)


@pytest.fixture(params=["h36m_17", "rtm_24", "vehs_66", "hand_21", "five"], scope="module")
def sk(request, tmp_path_factory):
    if request.param != "five": return get_skeleton(request.param)
    return get_skeleton(five_joints(tmp_path_factory.mktemp("skeleton")))


def clip(sk, seed, T=7):
    return torch.randn(2, T, sk.num_joints, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(x, sk):
    """Lengths (T,L) and angles (T,A) of one clip in plain Python."""
    lengths, angles = [], []
    for frame in x.tolist():
        vec = [[a - b for a, b in zip(frame[i], frame[j])] for i, j in sk.limbs]
        lengths.append([math.dist(v, (0, 0, 0)) for v in vec])
        angles.append([math.acos(sum(p * q for p, q in zip(vec[a], vec[b])) / lengths[-1][a] / lengths[-1][b]) for a, b in sk.limb_angle_pairs])
    return np.array(lengths), np.array(angles)


def test_values_by_hand(sk):
    """All four terms equal sums written out over the limbs and pairs of limbs."""
    p, y = clip(sk, 0)[:1], clip(sk, 1)[:1]
    (lp, ap), (ly, ay) = by_hand(p[0], sk), by_hand(y[0], sk)
    want = dict(limb_var=lp.var(0, ddof=1).mean(), limb_gt=np.abs(lp - ly).mean(), angle=np.abs(ap - ay).mean(),
                angle_velocity=np.abs(np.diff(ap, axis=0) - np.diff(ay, axis=0)).mean())
    total, terms = PoseLoss(sk, WEIGHTS)(p, y)
    for k, v in want.items(): np.testing.assert_allclose(float(terms[k]), v, rtol=1e-6, err_msg=k)
    np.testing.assert_allclose(float(total), 0.5 * sum(want.values()), rtol=1e-6)


def test_pairs_are_the_trees(sk):
    """Limbs reach every joint from the root, but those the published list of 24 points leaves out; angle pairs are pairs of limbs that share a joint, none twice, and reach every limb."""
    limbs = [set(map(int, l)) for l in sk.limbs]
    reached = {int(sk.root)}
    for _ in limbs: reached |= {j for l in limbs if l & reached for j in l}
    left_out = {"NOSE", "LEAR", "REAR", "LMCP2", "LMCP5", "RMCP2", "RMCP5"} if sk.name == "rtm_24" else set()
    assert {sk.joints[j] for j in set(range(sk.num_joints)) - reached} == left_out
    pairs = [tuple(sorted(map(int, p))) for p in sk.limb_angle_pairs]
    assert len(set(pairs)) == len(pairs) and set(pairs) <= {(a, b) for a, b in combinations(range(len(limbs)), 2) if limbs[a] & limbs[b]}
    assert {l for p in pairs for l in p} == set(range(len(limbs)))


def test_invariance(sk):
    """A turn and a shift change none of them; a larger body changes lengths by its factor and no angle; mirroring keeps the lengths' terms.
    (The published 18 pairs of the 17 points are not the same on both sides, so their angle terms may change.)"""
    p, y, loss = clip(sk, 2), clip(sk, 3), PoseLoss(sk, WEIGHTS)
    R = euler_to_rotmat(torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64), "xyz")
    base = float(loss(p, y)[0])
    np.testing.assert_allclose(float(loss(p @ R.mT + 3, y @ R.mT - 5)[0]), base, rtol=1e-9)
    torch.testing.assert_close(limb_lengths(1.7 * p, sk), 1.7 * limb_lengths(p, sk))
    torch.testing.assert_close(limb_angles(1.7 * p, sk), limb_angles(p, sk))
    one_sided = 1e-2 if sk.name == "vehs_66" else 1e-9  # its list has RPSIS-PELVIS without LPSIS-PELVIS: 1 of 68 limbs
    lengths = PoseLoss(sk, dict(limb_var=0.5, limb_gt=0.5))
    np.testing.assert_allclose(float(lengths(flip(p, sk), flip(y, sk))[0]), float(lengths(p, y)[0]), rtol=one_sided)


def test_gradient_pulls_towards_the_truth(sk):
    """Descending on these terms alone makes limbs and angles right, from coincident joints on without a number that is not finite."""
    y = clip(sk, 4)
    p = (y + 0.3 * clip(sk, 5)).requires_grad_()
    loss, opt = PoseLoss(sk, dict(limb_gt=1.0, angle=1.0, angle_velocity=1.0)), torch.optim.Adam([p], 0.02)
    first = float(loss(p, y)[0].detach())
    for _ in range(60):
        opt.zero_grad()
        loss(p, y)[0].backward()
        opt.step()
    assert float(loss(p, y)[0].detach()) < 0.5 * first
    flat = torch.zeros_like(y).requires_grad_()
    PoseLoss(sk, WEIGHTS)(flat, y)[0].backward()
    assert torch.isfinite(flat.grad).all()


def test_masks_and_short_clips(sk):
    """A missing joint takes its limbs and angles out and nothing else; one frame has no motion."""
    p, y = clip(sk, 6), clip(sk, 7)
    valid = torch.ones(y.shape[:-1], dtype=torch.bool)
    gone = int(sk.limbs[-1][1])
    valid[..., gone] = False
    broken = y.clone()
    broken[..., gone, :] = torch.nan
    lp, ly = limb_lengths(p, sk), limb_lengths(y, sk)
    kept = [i for i, l in enumerate(sk.limbs) if gone not in l]
    np.testing.assert_allclose(float(loss_limb_gt(p, broken, sk, valid=valid)), float((lp - ly)[..., kept].abs().mean()), rtol=1e-9)
    pairs = [i for i, q in enumerate(sk.limb_angle_pairs) if set(map(int, q)) <= set(kept)]
    want = (limb_angles(p, sk) - limb_angles(y, sk))[..., pairs]
    np.testing.assert_allclose(float(loss_angle(p, broken, sk, valid=valid)), float(want.abs().mean()), rtol=1e-9)
    np.testing.assert_allclose(float(loss_angle_velocity(p, broken, sk, valid=valid)), float(want.diff(dim=1).abs().mean()), rtol=1e-9)
    assert float(loss_limb_var(p[:, :1], sk)) == float(loss_angle_velocity(p[:, :1], y[:, :1], sk)) == 0
