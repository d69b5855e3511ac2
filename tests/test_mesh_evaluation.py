"""Evaluation of recovered bodies: parity with the reference's numbers, bad pictures counted, masks and keypoints end to end, result files of peers."""
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

import mesh_recipes as recipes
from humanbody.body import load_body
from humanbody.data.imagestore import ImageStore
from humanbody.mesh_evaluation import evaluate_mesh
from humanbody.mesh_protocols import get_mesh_protocol, teach_h36m
from humanbody.mesh_predictions import MeshPredictions, mean_predictions, predict_meshes
from humanbody.metrics import mpjpe, pa_mpjpe, procrustes_align

FIXTURES = Path(__file__).parent / "fixtures/mesh"
N = 6


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The fixture's truth as stores, its prediction, and its bodies."""
    torch.set_num_threads(1)
    folder, genders = tmp_path_factory.mktemp("sets"), ["male", "female", "female", "male", "female", "male"]
    pose, betas = recipes.draw("ev/pose", (N, 72), np.float64) * 0.3, recipes.draw("ev/betas", (N, 10))
    S = recipes.draw("ev/S", (N, 24, 3), np.float64) * 0.4
    change = recipes.draw("ev/dp", (N, 72), np.float64) * 0.1
    names = [f"S9_Walking_{i}.60457274_{i + 1:06d}.jpg" for i in range(N)]
    box = (np.full((N, 2), 112.0), np.ones(N))
    S4 = np.concatenate([S, np.ones((N, 24, 1))], -1)
    mesh = ImageStore.create(folder / "pw3d", "3dpw", "test", names, *box, dict(pose=pose, betas=betas, gender=np.array([{"male": 0, "female": 1}[g] for g in genders], np.int8)))
    joints = ImageStore.create(folder / "h36m", "h36m", "test", names, *box, {"joints3d/spin_24": S4})
    R = Rotation.from_rotvec((pose + change).reshape(-1, 3)).as_matrix().reshape(N, 24, 3, 3)
    pred = MeshPredictions(np.arange(N), R.astype(np.float32), recipes.draw("ev/pb", (N, 10)), np.full((N, 3), np.nan), "fixture")
    regressor = recipes.rows("J_regressor_h36m", 17, 8)
    bodies = {g: teach_h36m(recipes.mesh_body(g), regressor) for g in ("neutral", "male", "female")}
    return mesh, joints, pred, bodies


def close(e, ref, metric, protocol, name):
    """Compare the protocol's own per-picture numbers, metres, at 1e-5."""
    row = next(r for r in e.headline if r["metric"] == metric and (metric != "pve" or r["root"] == "none"))
    got = e.samples.errors[row["metric"], row["joints"], row["root"], row["align"]] / 1000
    assert np.abs(got - ref[name]).max() < 1e-5, (protocol, metric, np.abs(got - ref[name]).max())
    assert abs(row["value"] / 1000 - ref[name].mean()) < 1e-5


def test_parity_of_protocols(sets):
    """3DPW with gendered truth, Human3.6M and MPI-INF-3DHP: MPJPE, PA-MPJPE and raw PVE of eval_protocol.npz."""
    mesh, joints, pred, bodies = sets
    ref = dict(np.load(FIXTURES / "eval_protocol.npz"))
    e = evaluate_mesh(pred, mesh, "3dpw", bodies["neutral"], {g: bodies[g] for g in ("male", "female")}, draws=20)
    for metric, name in (("mpjpe", "mpjpe"), ("pa_mpjpe", "pa"), ("pve", "pve")): close(e, ref, metric, "3dpw", name)
    for protocol, names in (("h36m-p1", ("h36m_mpjpe", "h36m_pa")), ("h36m-p2", ("h36m_mpjpe", "h36m_pa")), ("mpi-inf-3dhp", ("mpi_mpjpe17", "mpi_pa17"))):
        e = evaluate_mesh(pred, joints, protocol, bodies["neutral"], draws=20)
        for metric, name in zip(("mpjpe", "pa_mpjpe"), names): close(e, ref, metric, protocol, name)
    e = evaluate_mesh(pred, mesh, "3dpw", bodies["neutral"], {g: bodies[g] for g in ("male", "female")}, draws=20)
    assert np.abs(e.samples.points[:, 0] - ref["pred_kp14"]).max() < 1e-5 and np.abs(e.samples.points[:, 1] - ref["gt_kp14"]).max() < 1e-5


def test_neutral_truth_raises_pve(sets):
    """A neutral body for gendered truth gives another PVE: the mistake of the list of causes, number 8."""
    mesh, _, pred, bodies = sets
    right = evaluate_mesh(pred, mesh, "3dpw", bodies["neutral"], {g: bodies[g] for g in ("male", "female")}, draws=20)
    wrong = evaluate_mesh(pred, mesh, "3dpw", bodies["neutral"], bodies["neutral"], draws=20)
    pick = lambda e: e.find(metric="pve", root="none", average="samples")[0]["value"]
    assert abs(pick(right) - pick(wrong)) > 10


def test_procrustes_parity():
    """Aligned points and errors of procrustes.npz, a mirrored and a flat case among them."""
    ref = dict(np.load(FIXTURES / "procrustes.npz"))
    a, b = (recipes.draw(f"pa/{n}", (16, 14, 3)) * np.float32(0.4) for n in ("S1", "S2"))
    b[:8] = np.float32(1.3) * a[:8] + np.float32(0.05) * b[:8]
    b[4] = a[4] * np.array([-1, 1, 1], np.float32)
    a[5, :, 2] = b[5, :, 2] = 0
    x, y = (torch.from_numpy(v.astype(np.float64)) for v in (a, b))
    assert np.abs(procrustes_align(x, y).numpy() - ref["S1_hat_f64"]).max() < 1e-6
    assert np.abs(pa_mpjpe(x, y).numpy() / 1000 - ref["pa"]).max() < 1e-6 and abs(pa_mpjpe(x, y).mean().item() / 1000 - ref["pa_mean"]) < 1e-6
    assert np.abs(mpjpe(x, y).numpy() / 1000 - ref["mpjpe"]).max() < 1e-6


def test_mmpose_joint_error(sets):
    """mmpose's rule by a plain loop: 14 of the 24, minus the middle of the hips, mean over all visible points, PA without the mask."""
    _, joints, pred, bodies = sets
    S = joints.values("joints3d/spin_24").copy()
    S[2, 7, 3] = S[4, 18, 3] = 0
    hidden = ImageStore.create(joints.path.parent / "hidden", "h36m", "test", joints.images[:], joints.center[:], joints.scale[:], {"joints3d/spin_24": S})
    e = evaluate_mesh(pred, hidden, "mmpose-joint-error", bodies["neutral"], draws=20)
    from humanbody.mesh_samples import read_points
    mesh = bodies["neutral"](torch.from_numpy(pred.betas), torch.from_numpy(pred.rotmats))
    p = read_points(bodies["neutral"], mesh, "spin_24").double().numpy()
    order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18]
    a, b, v = p[:, order], S[:, order, :3], S[:, order, 3] > 0
    a, b = (x - (x[:, [2]] + x[:, [3]]) / 2 for x in (a, b))
    assert abs(e.value("mpjpe") - 1000 * np.linalg.norm(a - b, axis=-1)[v].mean()) < 1e-4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten pictures of the free body: six good ones, one damaged, CMYK, 16-bit and turned; one box outside, one missing."""
    from humanbody.lsp_masks import draw_mask, six_parts
    from humanbody.models.hmr import make_state, mean_params, mesh_of
    folder, free = tmp_path_factory.mktemp("pictures"), load_body("free")
    state = make_state(*(x[None] for x in mean_params()))
    verts = mesh_of(free, state, "smpl_24").vertices[0]
    names, center, parts = [f"{i:03d}.{'tif' if i in (7, 8) else 'jpg'}" for i in range(10)], np.full((10, 2), 60.0), six_parts(free)
    center[9] = [900, 900]
    for i, name in enumerate(names):
        part = draw_mask(verts, free.faces, state.camera[0], np.array([60.0, 60.0]), 0.5, (120, 120), parts)
        Image.fromarray(part).save(folder / f"part_{i}.png")
        Image.fromarray((part > 0).astype(np.uint8) * 255).save(folder / f"mask_{i}.png")
        image = Image.fromarray(np.dstack([(part > 0) * 200 + 20] * 3).astype(np.uint8))
        if i == 7: image.convert("CMYK").save(folder / name)
        elif i == 8: Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 256).save(folder / name)
        elif i == 6:
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(folder / name, exif=exif)
        elif i == 5: (folder / name).write_bytes(b"\xff\xd8 no picture")
        elif i != 4: image.save(folder / name)
    J = Rotation.from_matrix(state.rotmats[0].numpy()).as_rotvec().reshape(-1)
    labels = dict(pose=np.tile(J, (10, 1)), betas=np.zeros((10, 10)), mask=[f"mask_{i}.png" for i in range(10)], part_mask=[f"part_{i}.png" for i in range(10)])
    return ImageStore.create(folder / "store", "odd", "test", names, center, np.full(10, 0.5), labels), folder, free, state, verts


def test_bad_pictures_are_counted(pictures):
    """A run over damaged, missing and odd pictures goes on and counts what it skipped."""
    from humanbody.models.hmr import HMR
    store, folder, free, _, _ = pictures
    torch.manual_seed(0)
    pred = predict_meshes(HMR("light", hidden=32), store, folder, batch=4)
    skipped = {s["row"]: s["reason"] for s in pred.skipped}
    assert {4, 5, 9} <= set(skipped) <= {4, 5, 7, 8, 9} and len(pred) + len(skipped) == 10 and "outside the picture" in skipped[9]
    e = evaluate_mesh(pred, store, "mesh", free, draws=20)
    assert sum(e.reasons.values()) == len(skipped) and {"box", "missing", "damaged picture"} <= set(e.reasons) and len(e.samples) == len(pred)
    one = evaluate_mesh(predict_meshes(HMR("light", hidden=32), store, folder, rows=[0]), store, "mesh", free, draws=20)
    assert len(one.samples) == 1 and np.isnan(one.headline[0]["low"])


def test_masks_end_to_end(pictures):
    """The true body drawn again scores nearly 100 %; a shifted camera less; a missing mask is skipped."""
    from humanbody.lsp_masks import six_parts
    store, folder, free, state, _ = pictures
    rows = np.arange(3)
    exact = mean_predictions(store, rows)
    assert exact.method == "mean body" and (exact.camera == state.camera[0].numpy()).all()
    e = evaluate_mesh(exact, store, "lsp-masks", free, root=folder, draws=50)
    p = evaluate_mesh(exact, store, "lsp-parts", free, root=folder, parts=six_parts(free), draws=50)
    assert e.value("accuracy") == 100 and p.value("f1") == 100
    moved = MeshPredictions(rows, exact.rotmats, exact.betas, exact.camera + [0, 0.3, 0], "moved")
    m = evaluate_mesh(moved, store, "lsp-masks", free, root=folder, draws=50)
    assert 30 < m.value("f1") < 98 and m.value("accuracy") < 98
    (folder / "mask_2.png").rename(folder / "gone.png")
    try: assert len(evaluate_mesh(exact, store, "lsp-masks", free, root=folder, draws=50).skipped) == 1
    finally: (folder / "gone.png").rename(folder / "mask_2.png")


def test_coco_end_to_end(pictures):
    """Annotations made from the body's own projection score 100, a subset says that it is one."""
    from humanbody.coco_oks import coco_points
    from humanbody.mesh_samples import read_points
    store, _, free, state, _ = pictures
    pred = mean_predictions(store, np.arange(3))
    mesh = free(torch.from_numpy(pred.betas), torch.from_numpy(pred.rotmats))
    xy = coco_points(read_points(free, mesh, "spin_24").numpy(), pred.camera, store.center[:3], store.scale[:3])
    note = lambda i: dict(id=i + 1, image_id=i, category_id=1, iscrowd=0, area=2000.0, bbox=[10, 10, 100, 100], num_keypoints=17, keypoints=np.c_[xy[i], np.full(17, 2)].reshape(-1).tolist())
    data = dict(images=[dict(id=i, file_name=f"{i:03d}.jpg") for i in range(3)], annotations=[note(i) for i in range(3)], categories=[dict(id=1, name="person")])
    assert abs(evaluate_mesh(pred, store, "coco-oks", free, annotations=data).value("ap") - 100) < 1e-6
    part = evaluate_mesh(pred, store, "coco-oks", free, annotations=data, ids=[0, 2])
    assert abs(part.value("ap") - 100) < 1e-6 and "subset of 2 of 3" in part.notes[0]
    with pytest.raises(ValueError, match="expected annotations="): evaluate_mesh(pred, store, "coco-oks", free)


def test_missing_pycocotools(monkeypatch):
    """Without pycocotools one sentence names the extra."""
    import sys
    from humanbody.coco_oks import coco_ap
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match=r"humanbody\[data\]"): coco_ap({}, [])


def test_protocols_describe_themselves():
    """The gendered protocol wants bodies, the frontal one a camera."""
    assert get_mesh_protocol("3dpw").describe()["truth"] == "mesh of the person's gender" and get_mesh_protocol("h36m-p2").describe()["rows"] == "camera 60457274"
