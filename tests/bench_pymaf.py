"""PyMAF against a plain twin that does what the published code does, and mixed precision against float32.

The twin is written here from the description: a ResNet-50 with its own layers for every step, the whole body posed for each of the four states with 49
joints, the mesh thinned by a dense one-hot product, four separate convolutions for the IUV maps. Ours looks at gathered vertices and poses the whole mesh
once, for the final state. Both have the same weights and give the same bodies. `bench()` returns rows (name, ours_ms, reference_ms, ratio), CPU time of one
thread, taking turns. One more row says what half precision costs on the shipped model: the change of its PA error, its PA errors in float32 and bf16 being
the ratio; without the model there is no such row. Run alone: `python tests/bench_pymaf.py [another model's file]`.
"""
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mesh_recipes import draw, fill, mean_params, mesh_body, rng, rows
from humanbody.body import load_body
from humanbody.data.image_scene_store import make_image_store, mask_points_of
from humanbody.data.image_scenes import SceneOptions
from humanbody.data.imagestore import ImageStore
from humanbody.mesh_predictions import predict_meshes
from humanbody.mesh_samples import mesh_samples
from humanbody.metrics import pa_mpjpe
from humanbody.models.fast_layers import inference_copy
from humanbody.models.hmr import MeanParams, mesh_of
from humanbody.models.mesh_files import load_mesh_model
from humanbody.models.pymaf import PyMAF


def rotations(six):
    """(B,144) to (B,24,3,3), first two columns."""
    x = six.reshape(-1, 3, 2)
    a = F.normalize(x[..., 0])
    b = F.normalize(x[..., 1] - (a * x[..., 1]).sum(-1, keepdim=True) * a)
    return torch.stack([a, b, torch.cross(a, b, dim=-1)], -1).view(len(six), -1, 3, 3)


class PlainBody:
    """Linear blend skinning as it is usually written."""

    def __init__(self, body):
        self.template, self.shapes = body.v_template.contiguous(), body.shapedirs.contiguous()
        self.poses = body.posedirs.permute(2, 0, 1).reshape(body.posedirs.shape[2], -1).contiguous()  # (207, 3V)
        self.joints, self.weights, self.parents = body.J_regressor, body.weights.contiguous(), body.parents
        self.extra, self.corners = torch.from_numpy(rows("J_regressor_extra", 9, 8)).float(), torch.arange(0, 6300, 300)  # 21 vertices, 9 points

    def __call__(self, betas, rot):
        B, J = rot.shape[:2]
        shaped = self.template + torch.einsum("bl,vkl->bvk", betas, self.shapes)
        rest = torch.einsum("bvk,jv->bjk", shaped, self.joints)
        offset = ((rot[:, 1:] - torch.eye(3)).reshape(B, -1) @ self.poses).view(B, -1, 3)
        step = rest.clone()
        step[:, 1:] = rest[:, 1:] - rest[:, list(self.parents[1:])]
        local = torch.cat([F.pad(rot, (0, 0, 0, 1)), F.pad(step[..., None], (0, 0, 0, 1), value=1)], -1)
        chain = [local[:, 0]]
        for j in range(1, J): chain.append(chain[self.parents[j]] @ local[:, j])
        world = torch.stack(chain, 1)
        moved = world - F.pad(world @ F.pad(rest[..., None], (0, 0, 0, 1)), (3, 0))
        T = (self.weights.expand(B, -1, -1) @ moved.view(B, J, 16)).view(B, -1, 4, 4)
        v = shaped + offset
        vertices = (T @ F.pad(v, (0, 1), value=1)[..., None])[:, :, :3, 0]
        return vertices, torch.cat([world[:, :, :3, 3], vertices[:, self.corners], torch.einsum("bvk,jv->bjk", vertices, self.extra)], 1)


class PlainPyMAF:
    """The published forward pass with the layers of `net`."""

    def __init__(self, net, body):
        self.net, self.body = net, PlainBody(body)
        self.Dmap = F.one_hot(net.maf_extractor[0].Dmap, body.num_vertices).float()
        line = torch.linspace(-1, 1, 21)
        self.grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(1, -1, 2)

    def backbone(self, x):
        n = self.net.feature_extractor
        x = nn.MaxPool2d(3, 2, 1)(torch.relu(n.bn1(n.conv1(x))))
        for stage in (n.layer1, n.layer2, n.layer3, n.layer4):
            for b in stage:
                y = torch.relu(b.bn1(b.conv1(x)))
                y = torch.relu(b.bn2(b.conv2(y)))
                y = b.bn3(b.conv3(y))
                x = torch.relu(y + (x if b.downsample is None else b.downsample(x)))
        return x, nn.AvgPool2d(7)(x)

    def read(self, maf, feature, points):
        seen = F.grid_sample(feature, points[:, :, None], align_corners=True)[..., 0]
        y = F.leaky_relu(maf.conv0(seen))
        y = F.leaky_relu(maf.conv1(torch.cat([y, seen], 1)))
        return F.relu(maf.conv2(torch.cat([y, seen], 1))).view(len(seen), -1)

    def project(self, x, cam):
        t = torch.stack([cam[:, 1], cam[:, 2], 2 * 5000 / (224 * cam[:, 0] + 1e-9)], -1)
        x = x + t[:, None]
        return 5000 * x[..., :2] / x[..., 2:] / 112

    def __call__(self, images, dense=True):
        net, B = self.net, len(images)
        feature, _ = self.backbone(images)
        r = net.regressor[0]
        pose, shape, cam = (x.expand(B, -1) for x in (r.init_pose, r.init_shape, r.init_cam))
        vertices, joints = self.body(shape, rotations(pose))
        for k, (maf, r) in enumerate(zip(net.maf_extractor, net.regressor)):
            for layer in net.deconv_layers[3 * k:3 * k + 3]: feature = layer(feature)
            points = self.grid.expand(B, -1, -1) if k == 0 else self.project(torch.matmul(self.Dmap[None], vertices), cam)
            x = r.fc2(r.fc1(torch.cat([self.read(maf, feature, points), pose, shape, cam], 1)))
            pose, shape, cam = pose + r.decpose(x), shape + r.decshape(x), cam + r.deccam(x)
            vertices, joints = self.body(shape, rotations(pose))
            self.project(joints, cam)
        maps = [getattr(net.dp_head, n)(feature) for n in net.dp_head.ORDER] if dense else None
        return vertices, joints, maps


def ours(net, body, images, dense=True):
    out = net(images, dense=dense)
    return (*mesh_of(body, out.final), out.dense)


def seconds(work):
    t = time.process_time()
    work()
    return time.process_time() - t


def turns(first, second, rounds):
    """Least CPU time of both, in ms, taking turns."""
    spent = [[], []]
    first(), second()
    for _ in range(rounds):
        for s, work in zip(spent, (first, second)): s.append(seconds(work))
    return [1e3 * min(s) for s in spent]


def pictures(most=200, drawn=32):
    """Return a store and rows spread over it: the project's test pictures where they are, else a few drawn now, with the folder to be removed."""
    path = Path(__file__).resolve().parent.parent / "data/images_112/test"
    made = None if path.is_dir() else tempfile.TemporaryDirectory()
    store = ImageStore(path) if made is None else make_image_store(made.name, drawn, "test", 77, 900, SceneOptions(size_px=112, per_subject=4))
    return store, np.linspace(0, len(store) - 1, min(most, len(store))).astype(int), made


def precision_rows(path=None):
    """Return the row on the PA error of half precision (14 joints of the "mesh" protocol), none when no model ships; `path` takes another model's file."""
    try: model = load_mesh_model("light_mesh" if path is None else path)
    except FileNotFoundError as e:
        if path is not None: raise
        print(f"no row on the PA error of bf16: {e}", file=sys.stderr)
        return []
    store, rows_, made = pictures()
    root, body, net = store.path.parent, load_body(), model.net
    chosen = mask_points_of(store, root, 0, net.size) if model.spec.look == "mask" else None
    points = chosen and (lambda row: None if (p := chosen(row)) is None else p[np.linspace(0, len(p) - 1, net.num_points).round().astype(int)])

    def error_mm(one):
        """Return the mean PA error of a model."""
        found = mesh_samples(predict_meshes(one, store, root, rows_, points=points), store, "mesh", body, rows=rows_).points
        return float(pa_mpjpe(found[:, 0], found[:, 1]).mean())

    full, half = error_mm(inference_copy(net)), error_mm(inference_copy(net, torch.bfloat16))
    if made: made.cleanup()
    return [(f"{Path(model.path).stem} in bf16, change of its PA error on {len(rows_)} pictures [mm]", abs(half - full), full, full / half)]


def bench(rounds=12, model=None):
    """Return the rows; `model`: a file in the place of the shipped model."""
    torch.set_num_threads(1)
    body, r = mesh_body(), rng("mesh_downsampling")
    first, second = (np.sort(r.choice(m, n, replace=False)) for n, m in ((1723, 6890), (431, 1723)))
    net = fill(PyMAF(body, mean=MeanParams(*map(torch.from_numpy, mean_params())), vertices=torch.from_numpy(first[second])), gain=True).eval()
    fast, half = inference_copy(net), inference_copy(net, torch.bfloat16)
    plain, out = PlainPyMAF(net, body), []
    images = torch.from_numpy(draw("pymaf/img", (2, 3, 224, 224))).repeat(4, 1, 1, 1)
    ours_of = lambda model, dense=False: lambda x: ours(model, body, x, dense)
    twin, twin_dense = lambda x: plain(x, False), lambda x: plain(x, True)
    with torch.inference_mode():
        a, b = ours(net, body, images[:2]), plain(images[:2])
        assert (a[0] - b[0]).abs().max() < 1e-5 and (a[2]["u"] - b[2][0]).abs().max() < 1e-5, "both must give the same bodies"
        joints = lambda model: mesh_of(body, model(images[:2]).final, vertices=False).joints
        assert (joints(fast) - joints(net)).abs().max() < 1e-5 and (joints(half) - joints(net)).norm(dim=-1).mean() < 0.0005, "metres"
        for B in (1, 8):
            x, n = images[:B], rounds if B == 1 else max(2, rounds // 4)
            rows_ = [("forward and mesh", ours_of(net), twin, "a twin with dense products")] if B > 1 else [
                ("forward, mesh and IUV maps", ours_of(net, True), twin_dense, "a twin with dense products"),
                ("forward and mesh", ours_of(net), twin, "a twin with dense products"),
                ("inference copy, forward and mesh", ours_of(fast), twin, "a twin with dense products")]
            rows_.append(("bf16 inference copy", half, net, "the float32 model"))
            for what, first, second, than in rows_:
                t = turns(lambda: first(x), lambda: second(x), n)
                out.append((f"PyMAF {what}, batch {B}, against {than}", *t, t[1] / t[0]))
    return out + precision_rows(model)


if __name__ == "__main__":
    for row in bench(model=sys.argv[1] if len(sys.argv) > 1 else None): print("{:90s} {:8.3f} {:8.2f} {:6.3f}x".format(*row), flush=True)
