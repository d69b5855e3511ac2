"""Whole ways through the evaluation of bodies: a model that looks at masks, released files, several processes, other systems in the same table, trials of Human3.6M."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from humanbody.body import load_body
from humanbody.data.image_scene_store import make_image_store, mask_points_of
from humanbody.data.image_scenes import SceneOptions
from humanbody.data.imagestore import ImageStore
from humanbody.data.mesh_results import write_mesh_results
from humanbody.mesh_entries import merge_predictions, read_entry
from humanbody.mesh_evaluation import evaluate_mesh, summarise
from humanbody.mesh_predictions import load_predictions, mean_predictions, predict_meshes, shard_rows
from humanbody.mesh_protocols import get_mesh_protocol
from humanbody.mesh_samples import load_samples, mesh_samples, protocol_rows, save_samples
from humanbody.models.hmr import HMR
from humanbody.models.mesh_files import MeshSpec, build_mesh_model, load_mesh_model, save_mesh_model
from humanbody.models.mesh_released import open_mesh_model
from humanbody.models.pymaf import PyMAF
from humanbody.models.released import open_released
from humanbody.sequence import PoseSequence

N, SIZE = 8, 64


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Eight small pictures with masks, their folder, and the free body."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("scenes")
    return make_image_store(folder, N, "test", 3, options=SceneOptions(size_px=SIZE, oversample=1, per_subject=2)), folder, load_body("free")


@pytest.fixture(scope="module")
def looking(scenes, tmp_path_factory):
    """A small PyMAF that looks where the mask is, saved and opened again, and the points of a row."""
    store, folder, free = scenes
    torch.manual_seed(0)
    spec, path = MeshSpec("pymaf", "light", 64, 0.5, SIZE, "mask"), tmp_path_factory.mktemp("model") / "looks.safetensors"
    net = build_mesh_model(spec, free)
    with torch.no_grad():
        for x in net.parameters():
            if x.ndim > 1: x.normal_(0, 1.5 / x[0].numel() ** 0.5)  # so that the picture counts
    save_mesh_model(net, path, spec, free.topology_id)
    model = load_mesh_model(path, free)
    chosen = mask_points_of(store, folder, 0, SIZE)

    def points(row):
        p = chosen(row)
        return None if p is None else p[np.linspace(0, len(p) - 1, model.net.num_points).round().astype(int)]
    return model, points


def test_a_model_that_looks_at_masks(scenes, looking):
    """The mask changes what is seen, the same way on every call."""
    store, folder, free = scenes
    model, points = looking
    assert model.spec.look == "mask"
    a, b = (predict_meshes(model.net, store, folder, batch=4, points=points) for _ in range(2))
    grid = predict_meshes(model.net, store, folder, batch=4)
    assert len(a) == N and not a.skipped and np.array_equal(a.rotmats, b.rotmats) and np.abs(a.rotmats - grid.rotmats).max() > 1e-3
    assert evaluate_mesh(a, store, "mesh", free, draws=20).value("mpjpe") > 0


@pytest.mark.parametrize("protocol", ["mesh", "lsp-masks"])
def test_several_processes_give_the_numbers_of_one(scenes, looking, protocol, tmp_path):
    """Predictions and samples of two ranks, written, read and merged."""
    store, folder, free = scenes
    model, points = looking
    see = lambda rows: predict_meshes(model.net, store, folder, rows, batch=2, method="m", points=points)
    more = dict(root=folder) if protocol == "lsp-masks" else {}
    whole = evaluate_mesh(see(None), store, protocol, free, draws=20, **more)
    ranks = [see(shard_rows(np.arange(N), k, 2, 2)) for k in range(2)]
    parts = [load_predictions(p.save(tmp_path / f"{k}.npz")) for k, p in enumerate(ranks)]
    assert all(0 < len(p) < N for p in parts)
    merged = evaluate_mesh(merge_predictions(parts[::-1]), store, protocol, free, draws=20, **more)
    assert merged.rows == whole.rows
    if protocol == "mesh":
        whole = summarise(mesh_samples(see(None), store, protocol, free, block=2), draws=20)
        samples = [load_samples(save_samples(mesh_samples(p, store, protocol, free, block=2), tmp_path / f"s{k}.npz")) for k, p in enumerate(parts)]
        assert str(summarise(samples, draws=20).rows) == str(whole.rows)
        lost = [replace(p, rows=p.rows[1:], rotmats=p.rotmats[1:], betas=p.betas[1:], camera=p.camera[1:]) for p in parts]  # a picture less in each part moves no other
        less = summarise(mesh_samples(merge_predictions(lost), store, protocol, free, block=2), draws=20)
        assert str(summarise([mesh_samples(p, store, protocol, free, block=2) for p in lost], draws=20).rows) == str(less.rows)


@pytest.mark.parametrize("kind", ["spin", "pymaf"])
def test_released_layouts_are_evaluated(scenes, kind, tmp_path):
    """A file with the released names goes through to the table; the function for lifters names the one for meshes."""
    store, folder, free = scenes
    torch.manual_seed(0)
    made = HMR("resnet50") if kind == "spin" else PyMAF(free, "resnet50")
    torch.save(dict(model=made.state_dict(), epoch=1), tmp_path / "released.pt")
    with pytest.raises(ValueError, match="released.pt: expected a checkpoint that lifts.*open_mesh_model"): open_released(tmp_path / "released.pt")
    model, report = open_mesh_model(tmp_path / "released.pt", free)
    assert report.complete
    pred = predict_meshes(model, store, folder, [0, 3], method=kind)
    assert len(evaluate_mesh(pred, store, "mesh", free, draws=20).samples) == 2


def noisy(store, spread=0.08):
    """Return true poses with noise, as rotation vectors and matrices, and true shapes."""
    pose, n = store.values("pose").astype(float).reshape(-1, 3), len(store)
    R = (Rotation.from_rotvec(pose) * Rotation.from_rotvec(np.random.default_rng(0).normal(size=pose.shape) * spread))
    return R.as_rotvec().reshape(n, 24, 3), R.as_matrix().reshape(n, 24, 3, 3), store.values("betas").astype(float)


def test_other_systems_stand_in_the_same_table(scenes, tmp_path):
    """The same bodies as HMR2.0, VIBE and SMPLify would write them score the same; a body of a damaged file is missing there, with its name."""
    store, _, free = scenes
    pose, R, betas = noisy(store)
    np.savez(tmp_path / "hmr2.npz", global_orient=R[:, :1], body_pose=R[:, 1:], betas=betas)
    seq = PoseSequence(np.full((N, 24, 3), np.nan), "smpl_24", 30, "camera", body=dict(pose=pose, betas=betas, trans=np.ones((N, 3))), frames=np.arange(N), subject="0")
    write_mesh_results([seq], tmp_path / "vibe.pkl", "tracks")
    (tmp_path / "smplify").mkdir()
    for i, name in enumerate(store.images):
        np.savez(tmp_path / "smplify" / (name.rsplit("/", 1)[-1].rsplit(".", 1)[0] + ".npz"), pose=pose[i].reshape(-1), betas=betas[i])
    broken = sorted((tmp_path / "smplify").iterdir())[-1]
    broken.write_bytes(b"PK cut")
    scores = {f: evaluate_mesh(read_entry(tmp_path / f, store, method=f), store, "mesh", free, draws=20) for f in ("hmr2.npz", "vibe.pkl", "smplify")}
    mean = evaluate_mesh(mean_predictions(store), store, "mesh", free, draws=20).value("mpjpe")
    exact = [e.value("mpjpe") for e in (scores["hmr2.npz"], scores["vibe.pkl"])]
    assert abs(exact[0] - exact[1]) < 1e-2 and 20 < exact[0] < mean / 2
    assert len(scores["smplify"].samples) == N - 1 and broken.name in scores["smplify"].skipped[0]["reason"] and scores["smplify"].reasons == {"prediction": 1}
    with pytest.raises(ValueError, match="expected a crop camera"): evaluate_mesh(read_entry(tmp_path / "vibe.pkl", store), store, "lsp-masks", free, root=tmp_path)


def test_a_prediction_that_is_not_finite_is_counted(scenes):
    """One body of NaN leaves the others in every protocol."""
    store, folder, free = scenes
    pred = mean_predictions(store)
    camera, R = pred.camera.copy(), pred.rotmats.copy()
    camera[2], R[2] = np.nan, np.nan
    odd = replace(pred, camera=camera, rotmats=R)
    for protocol in ("mesh", "lsp-masks"):
        e = evaluate_mesh(odd, store, protocol, free, root=folder, draws=20)
        assert [s["row"] for s in e.skipped] == [2] and "not finite" in e.skipped[0]["reason"] and e.rows[0]["samples"] == N - 1


def test_trials_of_human36m(tmp_path):
    """h36m-p2 keeps both trials as SPIN does, with trial=1 the first of each action, which is not always the one with the number 1."""
    names = [f"S9_{a}.{c}_{f:06d}.jpg" for a in ("Directions", "Directions_1", "SittingDown", "SittingDown_1") for c in ("60457274", "54138969") for f in (1, 6)]
    store = ImageStore.create(tmp_path / "h36m", "h36m", "test", names, np.ones((16, 2)), np.ones(16), {})
    picked = lambda p: sorted({store.images[i].split(".")[0] for i in protocol_rows(store, p)})
    assert len(protocol_rows(store, "h36m-p2")) == 8 and len(picked("h36m-p2")) == 4
    assert picked(get_mesh_protocol("h36m-p2", 1)) == ["S9_Directions_1", "S9_SittingDown"] and picked(get_mesh_protocol("h36m-p2", 2)) == ["S9_Directions", "S9_SittingDown_1"]
    assert len(protocol_rows(store, get_mesh_protocol("h36m-p2", 1))) == 4 and len(protocol_rows(store, get_mesh_protocol("h36m-p1", 1))) == 8
    other = ImageStore.create(tmp_path / "other", "other", "test", ["a.jpg"], np.ones((1, 2)), np.ones(1), {})
    with pytest.raises(ValueError, match="expected pictures of trial 1"): protocol_rows(other, get_mesh_protocol("h36m-p2", 1))
