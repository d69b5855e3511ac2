"""The rasteriser against finite differences, itself in chunks, a fake pytorch3d and, where there is one, a GPU."""
from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from humanbody.attributes import blur_radius_of, soft_silhouette
from humanbody.body import load_body
from humanbody.render import pytorch3d_camera, rasterize

FIX = Path(__file__).parent / "fixtures" / "render"
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def load(name: str) -> tuple[dict, torch.Tensor, torch.Tensor]:
    "Return a fixture, its camera points (B,V,3) in OpenCV axes and K."
    d = dict(np.load(FIX / f"{name}.npz"))
    verts = d["verts"].reshape(-1, *d["verts"].shape[-2:])
    h, w = d["image_size"]
    if "K" in d:
        return d, torch.tensor(verts @ d["R"].T + d["t"]), torch.tensor(d["K"])
    cam = (verts @ d["R"] + d["T"][:, None]) * np.float32([-1, -1, 1])
    f = d["focal"] * w / d["crop_size"] if "focal" in d else min(h, w) / 2 / np.tan(np.radians(d["fov_deg"]) / 2)
    return d, torch.tensor(cam), torch.tensor([[f, 0, w / 2], [0, f, h / 2], [0, 0, 1]], dtype=torch.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("max_bytes", [2**28, 2**14])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", sorted(p.stem for p in FIX.glob("*.npz") if p.stem != "rotations"))
def test_fixture(path: str, dtype: torch.dtype, max_bytes: int, device: str) -> None:
    "Every fixture at the stated tolerance, in both precisions, in one piece and in many chunks."
    d, cam, K = load(path)
    out = rasterize(cam.to(device, dtype), torch.tensor(d["faces"]), K, tuple(d["image_size"]), d["zbuf"].shape[-1], "cull" in path, float(d.get("blur_radius", 0)), max_bytes=max_bytes)
    start = np.arange(len(d["pix_to_face"]))[:, None, None, None] * len(d["faces"])
    want = np.where(d["pix_to_face"] >= 0, d["pix_to_face"] - start, -1)
    got = out.pix_to_face.cpu().numpy()
    assert (got == want).mean() >= 0.995
    same = (got == want) & (want >= 0)
    for name, tol in (("zbuf", 1e-3 if "weak" in path else 1e-4), ("bary_coords", 1e-3), ("dists", 1e-6)):
        assert np.abs(getattr(out, name).cpu().numpy() - d[name])[same].max() < tol


@pytest.mark.parametrize("device", DEVICES)
def test_silhouette_gradient(device: str) -> None:
    "The gradient of a soft silhouette loss of a body is the finite difference, away from the jumps of the visible set."
    body = load_body(dtype=torch.float64).to(device)
    verts = (body.v_template * torch.tensor([1.0, -1, -1], dtype=torch.float64, device=device) + torch.tensor([0.03, -0.3, 4.5], dtype=torch.float64, device=device))[None]
    K = torch.tensor([[60.0, 0, 16], [0, 60, 16], [0, 0, 1]], dtype=torch.float64)
    weight = torch.rand(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    sigma = 1e-3

    def loss(v: torch.Tensor) -> torch.Tensor:
        seen = rasterize(v, body.faces, K, (32, 32), 64, blur_radius=blur_radius_of(sigma))
        return (soft_silhouette(seen, sigma)[0] * weight).sum()

    v = verts.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(v), v)
    assert torch.isfinite(gradient).all() and (gradient[..., :2].abs().sum(-1) > 0).sum() > 100
    way, step = torch.zeros_like(verts), 1e-7
    way[..., 1] = torch.sin(7 * verts[..., 0])  # a bending of the whole body
    slow = (loss(verts + step * way) - loss(verts - step * way)) / (2 * step)
    assert float((gradient * way).sum()) == pytest.approx(float(slow), rel=0.02)


class _Cameras:
    def __init__(self, focal_length, principal_point, R, T, in_ndc, device):
        assert in_ndc and R.shape == (len(T), 3, 3)
        self.f, self.p, self.R, self.T = focal_length, principal_point, R, T

    def ndc(self, x: torch.Tensor) -> torch.Tensor:
        "Project by pytorch3d's rule: row vectors, x left, y up."
        seen = x @ self.R + self.T[:, None]
        return torch.cat([self.f[:, None] * seen[..., :2] / seen[..., 2:] + self.p[:, None], seen[..., 2:]], -1)


def _fake(seen: dict) -> dict[str, types.ModuleType]:
    "Return modules that look like pytorch3d, note what they are given and answer with the stored fragments."
    class Rasterizer:
        def __init__(self, cameras, raster_settings): self.cameras, self.settings = cameras, raster_settings

        def __call__(self, meshes):
            seen.update(ndc=self.cameras.ndc(meshes.verts), settings=self.settings)
            d = seen["fixture"]
            return types.SimpleNamespace(**{k: torch.tensor(d[k]) for k in ("pix_to_face", "zbuf", "bary_coords", "dists")})

    settings = lambda **options: types.SimpleNamespace(**options)
    renderer = types.ModuleType("pytorch3d.renderer")
    renderer.MeshRasterizer, renderer.PerspectiveCameras, renderer.RasterizationSettings = Rasterizer, _Cameras, settings
    structures = types.ModuleType("pytorch3d.structures")
    structures.Meshes = lambda verts, faces: types.SimpleNamespace(verts=verts, faces=faces)
    return {"pytorch3d": types.ModuleType("pytorch3d"), "pytorch3d.renderer": renderer, "pytorch3d.structures": structures}


@pytest.mark.parametrize("name", ["sphere_cv_64", "figure_cv_48x80_k4", "batch2_fov_64", "weakpersp_56"])
def test_pytorch3d_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    "What pytorch3d would be given projects to the stored NDC vertices; packed face numbers are unpacked."
    d, cam, K = load(name)
    seen: dict = dict(fixture=d)
    for key, module in _fake(seen).items():
        monkeypatch.setitem(sys.modules, key, module)
    size, layers = tuple(int(n) for n in d["image_size"]), d["zbuf"].shape[-1]
    got = rasterize(cam, torch.tensor(d["faces"]), K, size, layers, backend="pytorch3d")
    assert np.abs(seen["ndc"].numpy() - d["verts_ndc"]).max() < 1e-4
    assert seen["settings"].image_size == size and seen["settings"].blur_radius == 0 and seen["settings"].faces_per_pixel == layers
    own = rasterize(cam, torch.tensor(d["faces"]), K, size, layers)
    assert (got.pix_to_face == own.pix_to_face).float().mean() >= 0.995


@pytest.mark.parametrize("error", [ImportError("no module"), AttributeError("_C has no constant"), OSError("libtorch not found")])
def test_pytorch3d_missing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    "A pytorch3d that is not there or does not fit this torch is one sentence."
    class Broken(types.ModuleType):
        def __getattr__(self, name): raise error

    monkeypatch.setitem(sys.modules, "pytorch3d", types.ModuleType("pytorch3d"))
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer", Broken("pytorch3d.renderer"))
    with pytest.raises(ImportError, match="leave backend out"):
        rasterize(torch.rand(1, 3, 3) + 1, torch.tensor([[0, 1, 2]]), torch.eye(3), (4, 4), backend="pytorch3d")


def test_camera_needs_no_square() -> None:
    "The unit is half the shorter side, and the principal point counts from the middle, to the left and up."
    got = pytorch3d_camera(torch.tensor([[300.0, 0, 40], [0, 200, 30], [0, 0, 1]]), (100, 60))
    assert got["focal_length"].tolist() == [[10.0, pytest.approx(200 / 30)]]
    assert got["principal_point"][0].tolist() == pytest.approx([-(40 - 30) / 30, -(30 - 50) / 30])
