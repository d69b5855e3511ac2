"""Image-to-mesh training: published recipes in miniature, the mixture of source note 000 on stand-ins, resume and two processes."""
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from humanbody.config import load_config
from humanbody.data.imagestore import ImageStore
from humanbody.data.spin_npz import read_spin_npz
from humanbody.data.standin_images import SPIN
from humanbody.data.standins import make_standins
from humanbody.image_mesh_data import ImageMeshConfig
from humanbody.image_mesh_smoke import smoke_image_config
from humanbody.image_mesh_task import ImageMeshTask, loss_weights, train_image_mesh
from humanbody.runs import project_path

PARAMS = project_path("nbs/runs/params")
SIX = {"h36m-mosh-train", "mpi-inf-3dhp-train", "lsp-orig", "lspet", "mpii", "coco-train"}
# sets, mixture, lr, batch, epochs, augmentation of the published runs
PUBLISHED = dict(train_hmr=(SIX, "mmpose", 2.5e-4, 256, 100, "mmpose"), train_spin=(SIX, "spin", 5e-5, 64, 50, "spin"), train_pymaf=(SIX, "pymaf", 5e-5, 64, 60, "spin"),
                 train_pymaf_masks=({"lspet"}, "", 5e-5, 32, 60, "spin"))


def recipe(name):
    return load_config(yaml.safe_load((PARAMS / f"{name}.yaml").read_text())["config"], ImageMeshConfig)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_numbers_and_trains_in_miniature(name, tmp_path):
    """Sets, shares, rates and weights as published; the small version trains, its loss is finite and falls, and terms count only people with labels."""
    torch.set_num_threads(1)
    c = recipe(name)
    assert (set(c.stores), c.mixture, c.lr, c.batch_size, c.epochs, c.recipe) == PUBLISHED[name]
    assert (c.backbone, c.res) == ("resnet50", 224)
    small = replace(smoke_image_config(c, tmp_path), batch_size=12, steps_per_epoch=3, val={}, tensorboard=False)
    run, task = train_image_mesh(small)
    first, last = (h["train"] for h in run.history)
    assert np.isfinite(last["total"]) and last["total"] < first["total"]
    assert 0 < last["samples/keypoints2d"] <= 12
    if name == "train_pymaf_masks": assert first["samples/rotmats"] == 0  # lspet alone has no bodies; its fits are the user's files
    else: assert 0 < first["target/gt" if c.fitting else "samples/rotmats"] < 12
    if c.adversarial: assert {"real", "fake", "adversarial"} <= last.keys()
    if c.fitting: assert task.fits.valid.any() and (run.out / "fits/index.json").is_file()


def test_published_weights():
    spin, hmr = loss_weights(recipe("train_spin")), loss_weights(recipe("train_hmr"))
    assert {k: spin[k] for k in ("keypoints2d", "joints3d", "rotmats", "betas", "camera")} == dict(keypoints2d=300, joints3d=300, rotmats=60, betas=0.06, camera=60)
    assert (hmr["keypoints2d"], hmr["joints3d"], hmr["rotmats"], hmr["betas"], hmr["adversarial"]) == (100, 1000, 30, 0.2, 1)


@pytest.fixture(scope="module")
def standins(tmp_path_factory):
    """The six sets of source note 000 as stand-ins; h36m has lost its bodies (no MoSh)."""
    root = tmp_path_factory.mktemp("data")
    make_standins(root / "originals", 4, 0, sorted(SIX))
    stores = {}
    for key in SIX:
        a = read_spin_npz(root / "originals/dataset_extras" / SPIN[key][0])
        a.to_store(root / "full" / key, key, "train")
        store = ImageStore(root / "full" / key)
        keep = {k: (store.raw(k), store.present(k)) for k in store.labels if key != "h36m-mosh-train" or k not in ("pose", "betas")}
        ImageStore.create(root / key, key, "train", list(store.images), store.center, store.scale, keep)
        stores[key] = dict(store=str(root / key), root=str(root / "originals" / SPIN[key][1]))
    return stores


def tiny(stores, out, **kw):
    base = dict(stores=stores, method="spin", backbone="light", hidden=32, dropout=0.0, res=64, recipe="spin", lr=1e-3, batch_size=8, epochs=2, steps_per_epoch=3, out=str(out),
                mixture="spin", tensorboard=False, fitting=True, fit_steps=4, fit_limit=1e4)
    return ImageMeshConfig(**(base | kw))


def test_the_mixture_of_source_note_000_trains_without_mosh(standins, tmp_path):
    """Sets without bodies stay without bodies (nothing overwrites has_smpl); mpi-inf-3dhp keeps its own; the loss is finite and falls."""
    torch.set_num_threads(1)
    c = tiny(standins, tmp_path / "run", batch_size=16, epochs=3)
    run, task = train_image_mesh(c)
    totals = [h["train"]["total"] for h in run.history]
    assert np.isfinite(totals).all() and totals[-1] < totals[0]
    assert set(task.data.mixture.sets) == SIX and not task.data.skipped
    for h in run.history:
        t = h["train"]
        assert t["target/gt"] + t["target/fit"] == pytest.approx(t["samples/rotmats"], abs=1e-4)
        assert t["target/gt"] <= t["samples/joints3d"] < 16
    for name, data in zip(task.data.mixture.sets, task.data.order):  # the stores are as they were
        assert data.store.present("pose").any() == (name == "mpi-inf-3dhp-train")
    assert task.fits.valid.any()


def test_an_absent_set_gives_its_share_to_the_others(standins, tmp_path):
    some = {k: v for k, v in standins.items() if k != "h36m-mosh-train"}
    task = ImageMeshTask(tiny(some, tmp_path / "run"))
    assert "absent: h36m-mosh-train" in task.data.notes[0] and sum(task.data.mixture.weights) == pytest.approx(1)


def test_lspet_alone_with_mask_points(tmp_path):
    """Source note 004: one set, PyMAF, points of the image's own mask; the same picture gets the same points twice."""
    torch.set_num_threads(1)
    c = replace(smoke_image_config(recipe("train_pymaf_masks"), tmp_path), val={}, tensorboard=False, steps_per_epoch=2, epochs=1)
    task = ImageMeshTask(c)
    a, b = task.batch(0, 0), task.batch(0, 0)
    assert torch.equal(a["points"], b["points"]) and a["points"].isfinite().all() and len(torch.unique(a["points"].flatten(1), dim=0)) > 1
    run, _ = train_image_mesh(c)
    assert np.isfinite(run.history[0]["train"]["total"]) and run.history[0]["train"]["samples/part"] == 0


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    """HMR with discriminator and fits on two sets, one of them without bodies."""
    root = tmp_path_factory.mktemp("hard")
    both = {"synthetic": dict(store="a", root="b"), "lspet": dict(store="a", root="b")}
    c = ImageMeshConfig(stores=both, shares={"synthetic": 0.5, "lspet": 0.5}, method="hmr", adversarial=1.0, real="r", fitting=True, fit_steps=5)
    return replace(smoke_image_config(c, root), tensorboard=False, val={}, batch_size=6, steps_per_epoch=3)


def test_resume_gives_the_same_bytes_with_fits_and_discriminator(hard, tmp_path):
    torch.set_num_threads(1)
    whole, task = train_image_mesh(replace(hard, out=str(tmp_path / "whole")))
    train_image_mesh(replace(hard, out=str(tmp_path / "parts"), epochs=1))
    parts, again = train_image_mesh(replace(hard, out=str(tmp_path / "parts"), resume="latest"))
    assert (whole.out / "final.safetensors").read_bytes() == (parts.out / "final.safetensors").read_bytes()
    for k in ("pose", "betas", "loss", "valid", "source"): np.testing.assert_array_equal(getattr(task.fits, k), getattr(again.fits, k))
    state = load_file(whole.out / "final.safetensors")
    assert any(k.startswith("judge.") for k in state) and task.fits.valid.any()
    truth = np.arange(len(task.fits)) - task.data.starts[list(task.data.mixture.sets).index("synthetic")]
    assert not task.fits.valid[(truth >= 0) & (truth < 12)].any()  # people with ground truth are never fitted


def test_stopped_in_the_middle_of_an_epoch(hard, tmp_path):
    """A checkpoint inside an epoch holds the fits of that moment, and the rest of the epoch gives the bytes of an unbroken run."""
    torch.set_num_threads(1)
    c = replace(hard, epochs=1, checkpoint_every=1)
    whole, _ = train_image_mesh(replace(c, out=str(tmp_path / "whole")))

    class Stop(ImageMeshTask):
        def batch(self, epoch, step):
            if step == 2: raise KeyboardInterrupt
            return super().batch(epoch, step)

    from humanbody import image_mesh_task
    from humanbody.training import fit
    cut = replace(c, out=str(tmp_path / "cut"))
    with pytest.raises(KeyboardInterrupt): fit(image_mesh_task.train_config(cut), Stop(cut), False)
    parts, _ = train_image_mesh(replace(cut, resume="latest"))
    assert (whole.out / "final.safetensors").read_bytes() == (parts.out / "final.safetensors").read_bytes()


def test_two_processes_share_their_fits(hard, tmp_path):
    """The same engine under torch.distributed.run: every batch is whole, counts add up, and the fits of both processes are kept."""
    c = replace(hard, out=str(tmp_path / "two"), epochs=1)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(asdict(c), sort_keys=False))
    env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
    r = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "humanbody.image_mesh_task", str(tmp_path / "c.yaml")],
                       capture_output=True, text=True, env=env, timeout=500)
    assert r.returncode == 0, r.stderr[-2000:]
    one, task = train_image_mesh(replace(hard, out=str(tmp_path / "one"), epochs=1))
    two = yaml.safe_load((tmp_path / "two/metrics.jsonl").read_text().splitlines()[0])["train"]
    for k in ("samples/keypoints2d", "target/gt"): assert two[k] == pytest.approx(one.history[0]["train"][k], abs=1e-3)
    from humanbody.data.fits import FitsStore
    assert FitsStore(tmp_path / "two/fits").valid.sum() == task.fits.valid.sum() > 0


def test_bad_settings_are_sentences(tmp_path):
    with pytest.raises(ValueError, match="did you mean"): load_config(dict(bakbone="light"), ImageMeshConfig)
    with pytest.raises(ValueError, match="expected at least one set"): ImageMeshTask(ImageMeshConfig())
    with pytest.raises(FileNotFoundError, match="no index.json"): ImageMeshTask(ImageMeshConfig(stores=dict(a=dict(store=str(tmp_path), root=str(tmp_path)))))
