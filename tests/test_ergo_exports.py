"""Exports of a trial: round trips on awkward input, both CSV styles, workbooks, and what is refused."""
from dataclasses import replace

import numpy as np
import pytest

from humanbody.data.bvh import read_bvh
from humanbody.data.files import load_json
from humanbody.data.mocap import read_c3d, read_trc
from humanbody.ergo.exports import FORMATS, export_trial, flat_scores, to_upright, trial_sheets
from humanbody.ergo.spreadsheets import Column, Sheet, read_csv, write_csv, write_parquet, write_xlsx
from humanbody.sequence import PoseSequence, load_sequence
from humanbody.skeleton import get_skeleton


def walk(skeleton="rtm_24", frames=12, up=(0, 1, 0), seed=0):
    sk, rng = get_skeleton(skeleton), np.random.default_rng(seed)
    x = rng.normal(size=(1, sk.num_joints, 3)) * 0.4 + np.cumsum(rng.normal(size=(frames, sk.num_joints, 3)), 0) * 0.01
    return PoseSequence(x, sk, 50.0, up=up, subject="S1", trial="walk")


@pytest.mark.parametrize("up", [(0, 1, 0), (0, 0, 1), (1, 0, 0), (0, -1, 0), (0.6, 0, 0.8)])
@pytest.mark.parametrize("skeleton", ["rtm_24", "h36m_17", "vehs_66"])
def test_points_come_back_from_every_vertical(tmp_path, skeleton, up):
    """y is up in TRC, C3D and BVH; distances between points stay, and left stays left."""
    seq = walk(skeleton, up=up)
    export_trial(tmp_path, seq, formats=["trc", "c3d", "bvh"], name="a")
    want = to_upright(seq).joints
    np.testing.assert_allclose(want[..., 1], seq.joints @ seq.up, atol=1e-9)
    volume = lambda x: np.linalg.det(x[0, 1:4] - x[0, :1])
    assert np.isclose(volume(want), volume(seq.joints))
    assert np.abs(read_trc(tmp_path / "a.trc", up="y").points - want).max() < 1e-6
    assert np.abs(read_c3d(tmp_path / "a.c3d", up="y").points - want).max() < 1e-6
    bvh = read_bvh(tmp_path / "a.bvh", units="cm", first_frame="keep", end_sites=False)
    assert np.abs(bvh.only(seq.skeleton.joints).points - want).max() < 1e-4


def test_body_rotations_turn_with_the_world(tmp_path):
    """A z-up body sequence gives the same BVH as its y-up twin."""
    import torch
    from humanbody.body import load_body
    body, pose = load_body("free"), np.random.default_rng(0).normal(size=(5, 24, 3)).astype(np.float32) * 0.2
    x = body.joints(None, torch.as_tensor(pose), None, skeleton="smpl_24").double().numpy()
    seq = PoseSequence(x, "smpl_24", 30.0, up=(0, 1, 0), body=dict(pose=pose, betas=np.zeros(10), trans=np.zeros((5, 3))))
    R = np.roll(np.eye(3), 1, axis=0)  # y to z
    from scipy.spatial.transform import Rotation
    turned = pose.astype(float).copy()
    turned[:, 0] = (Rotation.from_matrix(R) * Rotation.from_rotvec(turned[:, 0])).as_rotvec()
    z_up = replace(seq, joints=x @ R.T, up=R @ [0, 1, 0], body=dict(pose=turned))
    for name, s in (("y", seq), ("z", z_up)):
        export_trial(tmp_path, s, formats="bvh", name=name)
    a, b = (read_bvh(tmp_path / f"{n}.bvh", units="cm", first_frame="keep") for n in "yz")
    np.testing.assert_allclose(b.points, a.points, atol=1e-5)
    np.testing.assert_allclose(b.info["rotations"], a.info["rotations"], atol=1e-5)


def test_gaps_stay_gaps(tmp_path):
    seq = walk()
    x = seq.joints.copy()
    x[3, 5] = x[7:9, 2] = np.nan
    made = export_trial(tmp_path, replace(seq, joints=x), formats=["trc", "c3d", "csv", "bvh", "npz"], name="g")
    for back in (read_trc(tmp_path / "g.trc", up="y").points, read_c3d(tmp_path / "g.c3d", up="y").points):
        assert (np.isnan(back).any(-1) == np.isnan(x).any(-1)).all()
    name = seq.skeleton.joints[2]
    assert np.isnan(read_csv(tmp_path / "g_points.csv").at(f"{name}_x")).nonzero()[0].tolist() == [7, 8]
    assert next(f for f in made["files"] if f["format"] == "bvh")["rows"] == [0, 3]
    np.testing.assert_array_equal(load_sequence(tmp_path / "g.npz").joints, x)
    assert made["missing_share"] == round(3 / (12 * 24), 6)


@pytest.mark.parametrize("style", ["international", "semicolon"])
def test_csv_of_any_numbers(tmp_path, style):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=50) * 10.0 ** rng.integers(-8, 8, 50), [np.nan, np.inf, 0.0, -0.0]])
    back = read_csv(write_csv(Sheet("t", (Column("a, b; c", "m/s"), Column("n")), (x, np.arange(len(x)))), tmp_path / "t.csv", style))
    finite = np.isfinite(x)
    np.testing.assert_allclose(back.at("a, b; c")[finite], x[finite], rtol=1e-8)
    assert np.isnan(back.at("a, b; c")[~finite]).all() and back.columns[0].unit == "m/s"


def test_no_formula_in_any_spreadsheet(tmp_path):
    seq = replace(walk(), trial="=cmd|' /C calc'!A0", subject="")
    made = export_trial(tmp_path, seq, scores=dict(note=["=1+1", "@SUM(A1)", "+3", "-x"] * 3), formats=["csv", "xlsx"])
    assert made["name"].isascii() and not set(made["name"]) & set("=|'! /")
    text = (tmp_path / f"{made['name']}_scores.csv").read_text(encoding="utf-8-sig")
    assert "'=1+1" in text and not [c for line in text.splitlines() for c in line.split(",") if c[:1] in "=@+" and c]
    assert read_csv(tmp_path / f"{made['name']}_scores.csv").at("note")[:4] == ["=1+1", "@SUM(A1)", "+3", "-x"]


def test_workbook_opens_in_openpyxl(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    write_xlsx([Sheet("a", (Column("x", "m"), Column("t")), (np.array([1.5, np.nan]), ["=1+1", "<ü&>"]))], tmp_path / "a.xlsx")
    rows = [[c.value for c in r] for r in openpyxl.load_workbook(tmp_path / "a.xlsx")["a"]]
    assert rows == [["x [m]", "t"], [1.5, "=1+1"], [None, "<ü&>"]]


def test_parquet_keeps_units(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(write_parquet(Sheet("a", (Column("x", "m"),), (np.array([1.5, np.nan]),)), tmp_path / "a.parquet"))
    assert table.schema.field(0).metadata[b"unit"] == b"m" and table.column(0).null_count == 1


def test_scores_of_any_shape():
    T = 4
    columns, rest = flat_scores(dict(a=np.arange(T), b=dict(c=["x"] * T, d=dict(e=np.ones(T), f=3)), g="abcd", h=np.zeros((T, 2))), T)
    assert list(columns) == ["a", "b.c", "b.d.e"] and set(rest) == {"b.d.f", "g", "h"}
    assert flat_scores(None, 3) == ({}, {})
    assert [s.name for s in trial_sheets(walk(), scores=dict(total=5))] == ["points", "columns"]


def test_manifest_names_no_folder_and_reads_back(tmp_path):
    made = export_trial(tmp_path / "deep" / "er", replace(walk("h36m_17"), source="/somewhere/private/file.npz"))
    text = (tmp_path / "deep/er/S1_walk_manifest.json").read_text()
    assert "private" not in text and str(tmp_path) not in text
    assert load_json(tmp_path / "deep/er/S1_walk_manifest.json") == made
    assert set(f["format"] for f in made["files"]) | set(made["not_written"]) == set(FORMATS)
    assert all("\n" not in why for why in made["not_written"].values())


def test_infinite_angles_and_wrong_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same frames"):
        export_trial(tmp_path, walk(), angles=dict(a=np.zeros(3)), formats="csv")
    with pytest.raises(ValueError, match="pass angles="):
        export_trial(tmp_path, walk(), formats="mot")
    assert not list(tmp_path.glob("*.csv"))
