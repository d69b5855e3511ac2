"""Exported lifters: every architecture and joint set equals its model; the file says what it is; other files are refused in one sentence."""
import importlib
import sys

import numpy as np
import pytest
import torch
from small_files import five_joints

onnx = pytest.importorskip("onnx", reason="did not run: pip install 'humanbody[onnx]'")
pytest.importorskip("onnxruntime", reason="did not run: pip install 'humanbody[onnx]'")
pytest.importorskip("onnxscript", reason="did not run: pip install 'humanbody[onnx]'")

from small_onnx import small_lifter

from humanbody.body import load_body
from humanbody.deployment import example_clips, export_lifter, export_weights, load_onnx
from humanbody.inference import load_lifter
from humanbody.models import onnx_files
from humanbody.models.dstformer import DSTformer
from humanbody.models.mesh_lifter import MeshRegressor
from humanbody.models.model_table import LIFTERS, construct
from humanbody.onnx_variants import make_fp16, make_int8
from humanbody.skeleton import get_skeleton

TINY = dict(dim_feat=16, depth=1, num_heads=2, mlp_ratio=1, maxlen=27)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("name", ["h36m_17", "rtm_24", "vehs_66", "five"])
def test_every_joint_set(name, tmp_path):
    """DSTformer: equal to the model, any batch and length, card and skeleton back, other joint counts refused."""
    sk = get_skeleton(five_joints(tmp_path) if name == "five" else name)
    model = DSTformer(sk.num_joints, **TINY)
    report = export_lifter(model, tmp_path / "a.onnx", sk, dict(seed=3, note="Größe"), frames=9)
    lifter = load_onnx(report.path, skeleton=sk)
    assert report.max_abs_error["pose3d"] < 1e-5 and lifter.frames == (1, 27)
    assert lifter.card == dict(seed=3, note="Größe") and lifter.skeleton.to_dict() == sk.to_dict()
    x = example_clips(sk, 4, 13)[0]
    with torch.no_grad(): np.testing.assert_allclose(lifter.predict(x.numpy()), model.eval()(x).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match=f"keypoints .N,T,{sk.num_joints},3."): lifter.predict(np.zeros((1, 9, sk.num_joints + 1, 3), np.float32))
    with pytest.raises(ValueError, match="expected clips of 1 to 27 frames, found 28"): lifter.predict(np.zeros((1, 28, sk.num_joints, 3), np.float32))


@pytest.mark.parametrize("kind", ["motionagformer_xs", "hypergraph_student", "mixste", "ridge", "temporal"])
def test_every_lifter(kind, tmp_path):
    """The other lifters of the table, made small; those of fixed length say so."""
    entry = LIFTERS[kind]
    if not entry.offered: pytest.skip(f"did not run: no {entry.target}")
    small = dict(motionagformer_xs=dict(size="xs", n_layers=1), temporal=dict(window=3, step=2, embed=8, width=16, depth=1), ridge={}).get(kind, TINY)
    try: model = construct(entry.builder, "rtm_24", 9, **small)
    except TypeError: model = construct(entry.builder, "rtm_24", 9, **dict(entry.args))
    for p in model.buffers() if kind == "ridge" else [getattr(model.head, "weight", None)] if kind == "temporal" else []:
        if p is not None: torch.nn.init.normal_(p, 0, 0.05)
    report = export_lifter(model, tmp_path / "a.onnx", "rtm_24", frames=9)
    lifter = load_onnx(report.path)
    assert report.max_abs_error["pose3d"] < 1e-4
    if getattr(model, "fixed_frames", False):
        assert lifter.frames == (9, 9)
        with pytest.raises(ValueError, match="expected clips of exactly 9 frames, found 8"): lifter.predict(np.zeros((1, 8, 24, 3), np.float32))
    else: assert lifter.frames[0] == 1 and lifter.frames[1] in (27, None)


def test_mesh_with_vertices(tmp_path):
    """MotionBERT's mesh regressor with the whole mesh in the file."""
    model = MeshRegressor(DSTformer(24, **{**TINY, "dim_rep": 16}), load_body("free"), "rtm_24", hidden_dim=16).eval()
    report = export_lifter(model, tmp_path / "a.onnx", "rtm_24", frames=4, vertices=True)
    out = load_onnx(report.path).predict_all(example_clips("rtm_24", 2, 3)[0].numpy())
    assert out["vertices"].shape == (2, 3, 6890, 3) and max(report.max_abs_error.values()) < 5e-5


def test_shipped_lifters(tmp_path):
    """A shipped joint lifter and the shipped mesh lifter from their files; int8 stays within 12 mm on the whole, fp16 costs nothing (they ship in it)."""
    for name in ("temporal_h36m_17", "mesh_vehs_66"):
        source = load_lifter(name)
        report = export_weights(source.weights.path, tmp_path / f"{name}.onnx")
        full = load_onnx(report.path)
        x = [v.numpy() for v in example_clips(full.skeleton, 2, 30, "ray")]
        assert max(report.max_abs_error.values()) < 1e-4 and full.card == source.card
        half, small = load_onnx(make_fp16(full.path, tmp_path / "h.onnx")), load_onnx(make_int8(full.path, tmp_path / "i.onnx"))
        distance = lambda a: np.linalg.norm(a.predict(*x) - full.predict(*x), axis=-1).mean()
        assert distance(half) < 1e-3 and 0 < distance(small) < 0.03


def test_int8_student_below_a_megabyte(tmp_path):
    """A DSTformer of width 64 and three layers."""
    model = DSTformer(17, dim_feat=64, dim_rep=128, depth=3, maxlen=27)
    full = load_onnx(export_lifter(model, tmp_path / "a.onnx", "h36m_17", frames=27).path)
    assert make_int8(full.path, tmp_path / "i.onnx").stat().st_size < 1e6


def test_packages_are_optional(tmp_path, monkeypatch):
    """Without onnxruntime or onnx the extra is named."""
    path = small_lifter(tmp_path / "a.onnx")
    for package in ("onnxruntime", "onnx"):
        with monkeypatch.context() as m:
            m.setitem(sys.modules, package, None)
            with pytest.raises(ImportError, match=r"pip install 'humanbody\[onnx\]'"): load_onnx(path)
    assert load_onnx(path).name == "twice"


def test_wrong_export_is_not_kept(tmp_path, monkeypatch):
    """A file that differs from its model is never written."""
    module = importlib.import_module("humanbody.deployment")
    monkeypatch.setattr(module, "parity", lambda *a: dict(pose3d=0.5))
    with pytest.raises(ValueError, match="nothing was written"): export_lifter(DSTformer(5, **TINY), tmp_path / "a.onnx", five_joints(tmp_path), frames=5)
    assert not list(tmp_path.glob("*.onnx")) and not list(tmp_path.glob(".*.onnx"))


def test_no_machine_paths(tmp_path):
    """The file says nothing about the machine it was made on."""
    report = export_lifter(DSTformer(5, **TINY), tmp_path / "a.onnx", five_joints(tmp_path), frames=5)
    data = open(report.path, "rb").read()
    assert b"site-packages" not in data and b"stack_trace" not in data and str(tmp_path).encode() not in data


def test_damaged_files(tmp_path):
    """Cut, flipped and unrelated bytes give one sentence or run; never anything else."""
    good = small_lifter(tmp_path / "a.onnx").read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "b.onnx"
    for _ in range(150):
        data = bytearray(good[:rng.integers(1, len(good))] if rng.random() < 0.3 else good)
        for i in rng.integers(0, len(data), 4): data[i] = rng.integers(256)
        path.write_bytes(data)
        try: load_onnx(path)
        except (ValueError, FileNotFoundError) as e: assert "expected" in str(e) and "\n" not in str(e)
    assert onnx_files.FORMAT == "humanbody.onnx/1"
