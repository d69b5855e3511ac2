"""Bad input to training and evaluation of image-to-mesh models: one clear sentence, or the run goes on with the rest and counts what it left out (the demo's own: test_demo_image)."""
import numpy as np
import pytest
import torch
from PIL import Image

import mesh_recipes as recipes
from humanbody.body import load_body
from humanbody.data.fits import Fits, FitsStore
from humanbody.data.image_scene_store import make_image_store
from humanbody.data.image_scenes import SceneOptions
from humanbody.data.imagestore import ImageStore
from humanbody.image_inference import open_image_model
from humanbody.image_mesh_data import ImageMeshConfig
from humanbody.image_mesh_task import train_image_mesh
from humanbody.mesh_evaluation import evaluate_mesh
from humanbody.mesh_predictions import mean_predictions, predict_meshes
from humanbody.models.hmr import HMR
from humanbody.models.mesh_files import MeshSpec, build_mesh_model, save_mesh_model
from humanbody.models.mesh_released import open_mesh_model

N = 12


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Twelve pictures: a cut one, CMYK, 16 bits, turned by EXIF, a missing one, a box outside; an empty mask, a damaged one, a missing one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("odd")
    s = make_image_store(folder, N, "test", 3, options=SceneOptions(size_px=64, oversample=1, per_subject=3))
    at, masks = lambda i: folder / s.images[i], s.values("mask")
    pixels = np.asarray(Image.open(at(1)))
    at(0).write_bytes(b"\xff\xd8 cut")
    Image.fromarray(pixels).convert("CMYK").save(at(1))
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(at(2), format="PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(at(3), exif=exif)
    at(4).unlink()
    center = s.center[:].copy()
    center[5] = 9000
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / str(masks[6]))
    (folder / str(masks[7])).write_bytes(b"\x89PNG cut")
    (folder / str(masks[8])).unlink()
    store = ImageStore.create(folder / "store", "odd", "test", list(s.images), center, s.scale[:], {k: (s.raw(k), s.present(k)) for k in s.labels})
    return store, folder


def config(store, folder, out, points="", **kw):
    """A run of one step over all rows."""
    entry = dict(store=str(store.path), root=str(folder)) | (dict(points=points) if points else {})
    base = dict(stores=dict(odd=entry), method="hmr", backbone="light", hidden=32, dropout=0.0, res=64, recipe="spin", lr=1e-3, batch_size=N, epochs=1, steps_per_epoch=1, out=str(out), tensorboard=False)
    return ImageMeshConfig(**(base | kw))


@pytest.mark.parametrize("method,lost", [("hmr", {0, 4, 5}), ("pymaf_masks", {0, 4, 5, 7, 8})])
def test_training_goes_on_and_counts(odd, method, lost, tmp_path):
    """Unreadable pictures, boxes outside and damaged masks are left out by row and reason; an empty mask, CMYK, 16 bits and a turned picture stay."""
    store, folder = odd
    run, task = train_image_mesh(config(store, folder, tmp_path / "run", "mask" if method != "hmr" else "", method=method))
    assert np.isfinite(run.history[-1]["train"]["total"])
    assert {r for _, r in task.data.skipped} == lost and "box outside the picture" in task.data.skipped["odd", 5]


def test_evaluation_goes_on_and_counts(odd):
    """The same pictures under a model that looks at masks."""
    from humanbody.data.image_scene_store import mask_points_of
    store, folder = odd
    free = load_body("free")
    net = build_mesh_model(MeshSpec("pymaf", "light", 32, 0.5, 64, "mask"), free)
    chosen = mask_points_of(store, folder, 0, 64)
    points = lambda row: None if (p := chosen(row)) is None else p[np.linspace(0, len(p) - 1, net.num_points).round().astype(int)]
    pred = predict_meshes(net, store, folder, batch=5, points=points)
    assert {s["row"] for s in pred.skipped} == {0, 4, 5, 7, 8} and len(pred) == N - 5
    e = evaluate_mesh(pred, store, "mesh", free, draws=20)
    assert sum(e.reasons.values()) == 5 and e.reasons["box"] == 1 and e.reasons["missing"] >= 1
    masks = evaluate_mesh(mean_predictions(store, np.arange(6, 12)), store, "lsp-masks", free, root=folder, draws=20)
    assert {s["row"] for s in masks.skipped} == {7, 8} and masks.rows[0]["samples"] == 4


def test_zero_people(tmp_path):
    """A set without rows is refused in training and evaluation."""
    empty = ImageStore.create(tmp_path / "empty", "empty", "test", [], np.zeros((0, 2)), np.zeros(0), dict(pose=np.zeros((0, 72)), betas=np.zeros((0, 10))))
    with pytest.raises(ValueError, match="with rows, found none"): train_image_mesh(config(empty, tmp_path, tmp_path / "run"))
    pred = predict_meshes(HMR("light", hidden=32), empty, tmp_path)
    with pytest.raises(ValueError, match="empty: expected at least one row"): evaluate_mesh(pred, empty, "mesh", load_body("free"))


def test_fits_of_another_set(odd, tmp_path):
    """Fits of other pictures are refused; those of some of the pictures find their rows by name, not by order."""
    from humanbody.mesh_learner import gather_fits
    store, folder = odd
    make = lambda names: Fits(names, np.arange(len(names))[:, None] * np.full(72, 0.01), np.zeros((len(names), 10)), np.ones(len(names), bool))
    other = FitsStore.create(tmp_path / "other", make([f"elsewhere_{i}.jpg" for i in range(N)]))
    made = config(store, folder, tmp_path / "run")
    made.stores["odd"]["fits"] = str(other.path)
    with pytest.raises(ValueError, match="expected fits of images of odd, found none of its 12 rows"): train_image_mesh(made)
    some = FitsStore.create(tmp_path / "some", make(list(store.images[:0:-1])))
    fits = gather_fits(dict(odd=store), dict(odd=str(some.path)))
    assert fits.valid.tolist() == [False] + [True] * (N - 1) and np.allclose(np.asarray(fits.pose)[1:, 0], 0.01 * np.arange(N - 2, -1, -1))


def test_body_of_another_topology_or_gender(odd, tmp_path):
    """Weights name the mesh they were made on; the true body of a man is not taken for a woman's."""
    store, _ = odd
    free, male = load_body("free"), recipes.mesh_body("male")
    spec = MeshSpec("hmr", "light", 32)
    path = save_mesh_model(build_mesh_model(spec), tmp_path / "m.safetensors", spec, "0123456789abcdef")
    with pytest.raises(ValueError, match="m.safetensors: expected the body it was trained on"): open_image_model(path, free)
    pred = mean_predictions(store)
    with pytest.raises(ValueError, match="one topology|regressor|h36m_17"): evaluate_mesh(pred, store, "mesh", free, male, draws=20)
    with pytest.raises(ValueError, match="a male body for female people"): evaluate_mesh(pred, store, "3dpw", free, dict(female=male, male=male), draws=20)


@pytest.mark.parametrize("leaf,rows,text", [("decshape", 300, "300 shape coefficients"), ("decpose", 132, "22 joints of 6"), ("deccam", 1, "a camera of 1 numbers"), ("fc1", 0, "no fc1.weight")])
def test_checkpoints_with_wrong_heads(leaf, rows, text, tmp_path, hmr_state):
    """The demo, the evaluation and the training all open files through these; each says which head is wrong."""
    state = dict(hmr_state)
    if rows: state |= {f"{leaf}.weight": torch.zeros(rows, 1024), f"{leaf}.bias": torch.zeros(rows)}
    else: del state[f"{leaf}.weight"]
    torch.save(dict(model=state), tmp_path / "wrong.pt")
    for open_it in (open_mesh_model, open_image_model):
        with pytest.warns(UserWarning) if rows else pytest.MonkeyPatch.context(), pytest.raises(ValueError, match=f"wrong.pt.*{text}"): open_it(tmp_path / "wrong.pt")


@pytest.fixture(scope="module")
def hmr_state():
    return HMR("resnet50").state_dict()
