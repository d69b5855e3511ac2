"""What is made once and kept serves training also when inference asked for it first."""
import subprocess
import sys

CODE = """
import torch
from humanbody.body import load_body
from humanbody.pose_prior import load_prior
from humanbody.skeleton import get_skeleton
body, sk = load_body(), get_skeleton("h36m_17")
J = get_skeleton("smpl_24").num_joints
pose = torch.randn(1, J, 3, generator=torch.Generator().manual_seed(0)) * 0.1

def use(pose):
    made = body(torch.zeros(1, body.num_betas), pose)
    joints = body.joints(torch.zeros(1, body.num_betas), pose, skeleton=sk.name)
    limb = joints[:, sk.limb_array[:, 0]] - joints[:, sk.limb_array[:, 1]]
    return made.vertices.square().sum() + limb.norm(dim=-1).sum() + load_prior()(pose[:, 1:]).sum()

with torch.inference_mode(): use(pose)
x = pose.clone().requires_grad_()
use(x).backward()
assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0
"""


def test_inference_first_training_afterwards():
    r = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr[-1500:]
