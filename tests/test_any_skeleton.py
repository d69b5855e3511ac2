"""The same checks on four joint sets: 17, 24 and 66 points, and five invented ones from a JSON file."""
import json

import numpy as np
import pytest
import torch
from small_files import FIVE, five_joints
from training_tools import make_store, tiny

from humanbody.data.store import MotionStore
from humanbody.ergo.angles import joint_angles
from humanbody.inference import lift, load_lifter
from humanbody.losses import PoseLoss
from humanbody.metrics import accel_error, mpjpe, mpjve, n_mpjpe, pa_mpjpe, pck
from humanbody.models.checkpoints import load_weights, save_weights
from humanbody.models.dstformer import DSTformer
from humanbody.models.lifters import MLPLifter, RidgeLifter, lifter_config
from humanbody.rotation import euler_to_rotmat
from humanbody.sequence import PoseSequence, load_sequence
from humanbody.skeleton import convert, flip, get_skeleton, list_skeletons, root_position, root_relative, skeleton_from_dict
from humanbody.training import fit

TERMS = ("mpjpe", "n_mpjpe", "velocity", "limb_var", "limb_gt", "angle", "angle_velocity")
TINY = dict(dim_feat=16, dim_rep=16, depth=1, num_heads=2, mlp_ratio=1, maxlen=9)


@pytest.fixture(params=["h36m_17", "rtm_24", "vehs_66", "five"], scope="module")
def sk(request, tmp_path_factory):
    """Each joint set in turn; the invented one is one JSON file, given by its path."""
    torch.set_num_threads(1)
    if request.param != "five": return get_skeleton(request.param)
    return get_skeleton(five_joints(tmp_path_factory.mktemp("skeleton")))


def motion(sk, T=12, seed=0):
    """Smooth motion (T,J,3) metres of the joints of a set about its root."""
    rng = np.random.default_rng(seed)
    s = np.linspace(0, 2, T)[:, None, None]
    return rng.normal(0, 0.3, (1, sk.num_joints, 3)) + 0.1 * np.sin(s + rng.normal(size=(1, sk.num_joints, 3)))


def tensor(sk, *lead, seed=0):
    return torch.randn(*lead, sk.num_joints, 3, generator=torch.Generator().manual_seed(seed))


def test_record(sk):
    """Pairs, tree and limbs agree with each other, and the record survives JSON."""
    assert sorted({*sk.left, *sk.right}) == sorted([*sk.left, *sk.right])
    assert (sk.flip_perm[sk.flip_perm] == np.arange(sk.num_joints)).all()
    again = skeleton_from_dict(json.loads(json.dumps(sk.to_dict())))
    assert again.to_dict() == sk.to_dict()
    assert sk.name in list_skeletons() and get_skeleton(sk.name).joints == sk.joints
    for a, b in sk.limb_angle_pairs: assert len({*sk.limb_array[a]} & {*sk.limb_array[b]}) == 1
    with pytest.raises(ValueError, match="did you mean"): sk.idx(sk.joints[-1] + "x")


def test_flip(sk):
    """Mirroring is an involution, exchanges the sides and keeps the mean root."""
    x = tensor(sk, 2, 3)
    y = flip(x, sk)
    torch.testing.assert_close(flip(y, sk), x)
    torch.testing.assert_close(y[..., sk.left, 1:], x[..., sk.right, 1:])
    torch.testing.assert_close(y[..., sk.left, 0], -x[..., sk.right, 0])
    np.testing.assert_array_equal(flip(x.numpy(), sk), y.numpy())
    torch.testing.assert_close(convert(x, sk, sk), x)
    assert root_position(root_relative(x, sk), sk).abs().max() < 1e-6


def test_losses(sk):
    """Every term is 0 at the truth, positive elsewhere, ignores what is not valid and has a gradient."""
    y, centre = tensor(sk, 2, 6), sk.name == "vehs_66"
    terms = [*TERMS, *["center"] * centre]
    loss = PoseLoss(sk, dict.fromkeys(terms, 1.0))
    _, zero = loss(y, y)
    assert set(zero) == set(terms) and all(zero[k].abs() < 1e-4 for k in zero if k not in ("limb_var", "center"))
    x = (y + 0.1 * tensor(sk, 2, 6, seed=1)).requires_grad_()
    total, found = loss(x, y)
    assert all(v > 0 for v in found.values())
    torch.testing.assert_close(total, sum(found.values()))
    total.backward()
    assert x.grad.isfinite().all() and (x.grad.abs().sum((0, 1, 3)) > 0).all()
    valid = torch.ones(y.shape[:-1], dtype=torch.bool)
    valid[:, :, -1] = False
    moved = y.clone()
    moved[..., -1, :] += 5
    assert loss(x, moved, valid)[1]["mpjpe"] == loss(x, y, valid)[1]["mpjpe"]
    if not centre:
        with pytest.raises(ValueError): PoseLoss(sk, dict(center=1.0))(y, y)


def test_metrics(sk):
    """Known displacements give known millimetres; a similarity gives 0 after alignment."""
    y = motion(sk)
    assert np.allclose(mpjpe(y + [0.03, 0, 0.04], y), 50) and np.allclose(mpjve(y + 1, y), 0, atol=1e-9)
    R = euler_to_rotmat(torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)).numpy()
    assert pa_mpjpe(1.7 * y @ R.T + 3, y).max() < 1e-6 and n_mpjpe(2 * y, y).max() < 1e-6
    assert accel_error(y, y).shape == (len(y) - 2,) and np.allclose(pck(y + 0.2, y, 300), 0)
    np.testing.assert_allclose(mpjpe(flip(y, sk), flip(y + 0.01, sk)), mpjpe(y, y + 0.01))
    root = mpjpe(y + 0.5, y, root=sk)
    assert root.max() < 1e-9


def test_models(sk):
    """Each lifter runs forward and backward, and learns the obvious."""
    x, y = tensor(sk, 2, 9), tensor(sk, 2, 9, seed=1)
    model = DSTformer(sk.num_joints, **TINY)
    out = model(x)
    assert out.shape == y.shape
    PoseLoss(sk)(out, y)[0].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters()) > 5
    win, context = tensor(sk, 400, 1), torch.zeros(400, 4)
    target = win[:, 0] * torch.tensor([2.0, -1.0, 0.5])
    ridge = RidgeLifter(sk.num_joints).fit([(win, context, target)], 1e-6)
    assert (ridge(win, context) - target).abs().max() < 1e-2
    mlp = MLPLifter(sk.num_joints, width=32, depth=1)
    opt, first = torch.optim.Adam(mlp.parameters(), 3e-3), None
    for _ in range(30):
        loss = (mlp(win, context) - target).norm(dim=-1).mean()
        first = first or loss.item()
        opt.zero_grad(), loss.backward(), opt.step()
    assert loss.item() < 0.9 * first


def test_training_and_lifting(sk, tmp_path):
    """A store, an epoch of `fit`, its weights, and `lift` from a saved weights file."""
    make_store(tmp_path / "store", sk.name)
    record = fit(tiny(tmp_path, "run", skeleton=sk.name, epochs=1), progress=False)
    assert record.history[-1]["train"]["total"] > 0
    assert load_weights(tmp_path / "run/final.safetensors", skeleton=sk.name).joints == sk.joints
    store = MotionStore(tmp_path / "store")
    kp, truth = store.keypoints(0, sk.name), store.sequence(0, sk.name)
    mlp = MLPLifter(sk.num_joints, window=3, width=16, depth=1)
    mlp.mean.copy_(torch.as_tensor(root_relative(truth.joints, sk)[0]).flatten())
    save_weights(mlp, tmp_path / "mine.safetensors", sk, lifter_config(mlp))
    lifter = load_lifter(tmp_path / "mine.safetensors", sk)
    for average in (False, True):
        seq = lift(kp, lifter, truth.up, flip_average=average)
        assert seq.joints.shape == truth.joints.shape and np.isfinite(seq.joints).all() and seq.frame == "camera"
        np.testing.assert_array_equal(seq.frames, truth.frames)
        assert 0.2 < np.median(seq.joints[..., 2]) < 20  # in front of the camera


def test_sequence_round_trip(sk, tmp_path):
    """Gaps, confidence and an invented joint set survive the file."""
    x = motion(sk)
    x[3, 0] = np.nan
    conf = np.where(np.isnan(x).any(-1), 0.0, 0.5)
    seq = PoseSequence(x, sk, 50.0, up=(0, 1, 0), confidence=conf, subject="S1", trial="T", info=dict(note="é"))
    seq.save(tmp_path / "s.npz")
    again = load_sequence(tmp_path / "s.npz")
    np.testing.assert_array_equal(again.joints, x)
    np.testing.assert_array_equal(again.confidence, conf)
    assert again.skeleton.joints == sk.joints and again.info == seq.info and len(again[2:8:2]) == 3


def test_angles(sk):
    """No crash on any joint set: an angle is a number, or NaN with a reason in words."""
    seq = PoseSequence(motion(sk), sk, 50.0, up=(0, 1, 0))
    angles = joint_angles(seq)
    assert len(angles) > 20
    for name in angles:
        lost = np.isnan(angles[name])
        assert len(lost) == len(seq)
        assert (angles.reasons[name][lost] != "").all(), f"{name} is undefined without a reason"
    defined = [n for n in angles if np.isfinite(angles[n]).any()]
    assert bool(defined) == (sk.name != FIVE["name"])
