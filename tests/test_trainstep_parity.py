"""Three optimiser steps of the reference's training routine, with our model, loss and AdamW."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from humanbody.losses import PoseLoss
from humanbody.models.dstformer import DSTformer, fill_recipe
from humanbody.skeleton import get_skeleton, root_position, root_relative

FIXTURES = Path(__file__).parent / "fixtures/lifting"
EVERY = dict(mpjpe=1.0, n_mpjpe=0.5, velocity=20.0, limb_var=1.0, limb_gt=1.0, angle=1.0, angle_velocity=1.0)
FULL = {"head.weight": "grad_head_weight", "joints_embed.weight": "grad_joints_embed_weight",
        "blocks_ts.0.attn_t.qkv.weight": "grad_blocks_ts0_attn_t_qkv_weight"}


def prepare(y, rootrel, skeleton):
    "Root handling of the label: relative in every frame, or only the first frame's root depth removed."
    if rootrel:
        return root_relative(y, skeleton)
    depth = root_position(y, skeleton)[:, :1, :, 2].clone()  # (B,1,1); a view would change while subtracting
    return torch.cat([y[..., :2], (y[..., 2] - depth)[..., None]], -1)


@pytest.mark.parametrize("rootrel", [True, False])
def test_three_steps(rootrel):
    torch.set_num_threads(1)
    ref = np.load(FIXTURES / f"trainstep_rootrel_{rootrel}.npz")
    config, args = (json.loads(str(ref[k])) for k in ("config", "args"))
    config.pop("backbone")
    sk = get_skeleton("h36m_17")
    loss = PoseLoss(sk, dict(mpjpe=1.0, n_mpjpe=args["lambda_scale"], velocity=args["lambda_3d_velocity"]))
    every = PoseLoss(sk, EVERY)
    model = fill_recipe(DSTformer(**config), float(ref["weight_std"])).train()
    opt = torch.optim.AdamW(model.parameters(), float(ref["lr"]), weight_decay=float(ref["weight_decay"]))
    for step in range(3):
        x, y = (torch.from_numpy(ref[k][step]) for k in "xy")
        y = prepare(y, rootrel, sk)
        pred = model(x)
        total, _ = loss(pred, y)
        with torch.no_grad():
            terms = list(every(pred, y)[1].values())
        want = ref["loss_history"][step]
        np.testing.assert_allclose([float(t) for t in terms], want[:-1], rtol=1e-5)
        np.testing.assert_allclose(float(total.detach()), want[-1], rtol=1e-5)
        opt.zero_grad()
        total.backward()
        if step == 0:
            check_gradients(model, ref)
        opt.step()
    with torch.no_grad():
        out = model.eval()(torch.from_numpy(ref["x"][0]))
    assert np.abs(out.numpy() - ref["out_after"]).max() <= 1e-4


def check_gradients(model, ref):
    grads = {k: p.grad for k, p in model.named_parameters()}
    assert list(grads) == [str(n) for n in ref["grad_norm_names"]]
    norms = [float(g.double().norm()) for g in grads.values()]
    np.testing.assert_allclose(norms, ref["grad_norms"], rtol=1e-4)
    for name, key in FULL.items():
        want = ref[key]
        assert np.abs(grads[name].numpy() - want).max() <= 1e-4 * np.abs(want).max(), name
    want = ref["grad_temp_embed"]
    got = grads["temp_embed"][0, : len(want), 0].numpy()
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
