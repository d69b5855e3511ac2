"""The tree of stand-ins goes through inventory, plan and conversion like a user's data root; every file comes out as a store."""
from pathlib import Path

import numpy as np
import pytest

from humanbody.data.convert import CONVERTERS, convert_all, plan_conversions
from humanbody.data.datasets import list_auxiliary, list_datasets
from humanbody.data.fits import FitsStore
from humanbody.data.imagestore import ImageStore
from humanbody.data.inventory import take_inventory
from humanbody.data.standin_images import SIZE, SPIN
from humanbody.data.standins import README, STANDINS, make_standins
from humanbody.data.store import MotionStore
from humanbody.sequence import load_sequence

PEOPLE = 2
NO_STANDIN = {"halpe-json"}  # convertible kinds of which the registry has no set


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The tree, made once."""
    return make_standins(tmp_path_factory.mktemp("standins") / "root", PEOPLE)


@pytest.fixture(scope="module")
def converted(tree):
    """Jobs, what was left alone, and results."""
    jobs, left = plan_conversions(tree, tree.parent / "out", size=SIZE)
    return jobs, left, convert_all(jobs, workers=1)


def test_everything_is_found_and_nothing_is_faulty(tree):
    inv = take_inventory(tree)
    assert set(inv.found()) == set(list_datasets()) | set(list_auxiliary())
    assert [k.sentence() for k in inv.others if k.kind == "faulty"] == []
    assert set(STANDINS) >= set(inv.found())
    assert (tree / "README.txt").read_text() == README and "no licensed data" in README
    assert {s.recipe.key: s.state for s in inv.recipes if s.state != "complete"} == {}


def test_every_convertible_kind_has_a_job(converted):
    jobs, left, _ = converted
    assert set(CONVERTERS) - {j.kind for j in jobs} <= NO_STANDIN
    assert [w for w in left if "no conversion needed" not in w[1]] == []
    assert len({j.target for j in jobs}) == len(jobs)


def test_every_job_is_made(converted):
    _, _, results = converted
    assert [(r.kind, Path(r.source).name, r.reason) for r in results if r.status != "made"] == []
    assert all(r.rows > 0 for r in results)


def test_results_open(converted):
    jobs, _, results = converted
    for job, r in zip(jobs, results):
        folder, target = CONVERTERS[job.kind][0], Path(job.target)
        if folder == "images": assert len(ImageStore(target)) == r.rows
        if folder == "fits": assert len(FitsStore(target)) == r.rows
        if folder == "motions": assert sum(len(m) for m in MotionStore(target).motions) == r.rows
        if folder == "sequences": assert len(load_sequence(target)) == r.rows
        if folder == "keypoints": assert list(target.glob("person_*.npz"))


def test_second_run_changes_nothing(converted):
    jobs, _, _ = converted
    assert {r.status for r in convert_all(jobs)} == {"unchanged"}


def test_truth_agrees_between_formats(converted):
    """The same people by way of the SPIN file and of the native file."""
    jobs, _, _ = converted
    stores = {(j.dataset, j.kind, Path(j.source).name): j.target for j in jobs if CONVERTERS[j.kind][0] == "images"}
    pick = lambda key, kind: ImageStore(next(t for (d, k, n), t in sorted(stores.items()) if d == key and k == kind and not n.startswith("coco_annotations") and "eft" not in n))
    for key, kind in (("mpii", "mpii-mat"), ("lspet", "lsp-joints"), ("coco-val", "coco-json"), ("3dpw", "3dpw-pkl")):
        a, b = pick(key, "spin-npz"), pick(key, kind)
        labels = ("pose", "betas") if key == "3dpw" else ("keypoints2d/spin_24",)
        for label in labels: np.testing.assert_allclose(np.nan_to_num(a.values(label)), np.nan_to_num(b.values(label)), atol=1.01 if key == "mpii" else 1e-4, err_msg=f"{key} {label}")
    assert {k for k in SPIN} <= {d for d, _, _ in stores}
