"""Malformed motion capture and body-parameter files (cases 57 and 59 to 62 of the list of malformed inputs): a clear sentence or a stated fallback."""
import struct

import numpy as np
import pytest
from small_files import BVH

from humanbody.data.amass import amass_files, amass_sequence, load_amass, motionbert_motions
from humanbody.data.amc import read_amc
from humanbody.data.bvh import read_bvh
from humanbody.data.mocap import MarkerData, check_c3d_header, read_c3d
from humanbody.data.mocap_writers import write_c3d
from humanbody.skeleton import get_skeleton

ASF = """:version 1.10
:name ARM
:units
  mass 1.0
  length 0.45
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    id 1
    name upper
    direction 1 0 0
    length 3
    axis 0 0 90 XYZ
    dof rx ry rz
    limits (-180 180)
           (-180 180)
           (-180 180)
  end
:hierarchy
  begin
    root upper
  end
"""
AMC = ":FULLY-SPECIFIED\n:DEGREES\n1\nroot 1 2 3 0 0 90\nupper 90 0 0\n2\nroot 1 2 3 0 0 90\nupper 0 0 0\n"
RAD = float(np.pi / 2)


def sentence(reader, *args, error=ValueError, **options):
    """Return the message of the error a reader must raise: one line, naming the file."""
    with pytest.raises(error) as e:
        reader(*args, **options)
    text = str(e.value)
    assert str(args[0]) in text and "\n" not in text and len(text) < 600, text
    return text


def text(path, content):
    path.write_text(content)
    return path


def test_case_57_amass_rates_widths_and_shape_files(tmp_path):
    def npz(name="a_poses.npz", **members):
        np.savez(tmp_path / name, **{"poses": np.zeros((8, 156)), "trans": np.zeros((8, 3)), "betas": np.zeros(16), "gender": "male", **members})
        return tmp_path / name

    assert "mocap_framerate or mocap_frame_rate" in sentence(load_amass, npz())
    assert load_amass(npz(), fps=60).fps == 60
    odd = load_amass(npz(mocap_framerate=59.94))
    assert odd.fps == 59.94 and len(motionbert_motions(odd)[0].poses) == 8
    slow = motionbert_motions(load_amass(npz(mocap_frame_rate=20.0)))
    assert len(slow) == 1 and slow[0].fps == 20 and "below 30" in slow[0].notes[-1]
    J = get_skeleton("smpl_24").num_joints
    assert amass_sequence(load_amass(npz(poses=np.zeros((8, 165)), mocap_frame_rate=120.0))).body["pose"].shape == (8, J, 3)
    rootless = load_amass(npz(poses=np.zeros((8, 69)), mocap_framerate=30.0))
    assert any("lack the root rotation" in n for n in rootless.notes)
    pose = amass_sequence(rootless).body["pose"]
    assert np.isnan(pose[:, 0]).all() and (pose[:, 1:] == 0).all()
    assert "(8, 150)" in sentence(load_amass, npz(poses=np.zeros((8, 150)), mocap_framerate=60.0))
    np.savez(tmp_path / "shape.npz", betas=np.zeros(16))
    assert "not a motion" in sentence(load_amass, tmp_path / "shape.npz")
    good, bad = amass_files(tmp_path)
    assert len(good) + len(bad) == 2 and "not a motion" in bad[-1]["reason"]


def test_case_59_bvh_without_motion_ragged_or_unusual(tmp_path):
    def bvh(*changes):
        content = BVH
        for old, new in changes:
            assert old in content
            content = content.replace(old, new)
        return text(tmp_path / "a.bvh", content)

    assert "no MOTION" in sentence(read_bvh, bvh((BVH[BVH.index("MOTION"):], "")), units="cm")
    assert "states 5 frames, the file has 3 rows" in read_bvh(bvh(("Frames: 3", "Frames: 5")), units="cm").notes[0]
    assert "line 21: ragged motion row" in sentence(read_bvh, bvh(("0 92 0 1 2 3 4 5 6", "0 92 0 1 2 3")), units="cm")
    assert "Frame Time is 0" in sentence(read_bvh, bvh(("0.01", "0")), units="cm")
    every = read_bvh(bvh(("CHANNELS 3 Zrotation", "CHANNELS 6 Xposition Yposition Zposition Zrotation"), *((f"0 {k} 0 1 2 3 4", f"0 {k} 0 0 0 0 7 25 0 4") for k in (90, 91, 92))), units="cm")
    assert np.allclose(every.at("Chest") - every.at("Hips"), [0.07, 0.25, 0])  # positions replace the OFFSET of 20
    turned = read_bvh(bvh(("Zrotation Xrotation Yrotation\n JOINT", "Yrotation Zrotation Xrotation\n JOINT")), units="cm").info["rotations"][0, 0]
    a, b, c = np.radians([1, 2, 3])
    Y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    Z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    X = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
    assert np.allclose(turned, Y @ Z @ X)
    placed = read_bvh(bvh((" OFFSET 0 0 0\n CHANNELS 6", " OFFSET -272 99 259\n CHANNELS 6")), units="cm")
    assert np.allclose(placed.at("Hips")[:, 1], [0.90, 0.91, 0.92])  # the position channels are absolute
    named = read_bvh(bvh(("ROOT Hips", "ROOT rig:Hips"), ("JOINT Chest", "JOINT Upper Chest")), units="cm")
    assert named.names[:2] == ("rig:Hips", "Upper Chest")


def test_case_60_bvh_first_frame_is_a_tpose(tmp_path):
    still = BVH.replace("0 90 0 1 2 3 4 5 6", "0 91 0 0 0 0 4 5 6").replace("0 91 0 1 2 3", "0 91 0 40 2 3").replace("0 92 0 1 2 3", "0 92 0 40 2 3")
    path = text(tmp_path / "t.bvh", still)
    dropped, kept = read_bvh(path, units="cm"), read_bvh(path, units="cm", first_frame="keep")
    assert dropped.frames.tolist() == [1, 2] and "artificial T-pose" in dropped.notes[-1] and len(kept.points) == 3
    assert len(read_bvh(text(tmp_path / "r.bvh", BVH), units="cm").points) == 3  # a recording that starts moving keeps its first frame


def test_case_61_c3d_gaps_prefix_many_points_metres_big_endian(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 2, size=(6, 300, 3))
    points[2:4, 7] = np.nan
    names = tuple(f"Anna:M{i}" for i in range(300))
    data = MarkerData(points, names, 100.0, (0, 0, 1))
    for processor, units in ((84, "mm"), (85, "m"), (86, "m")):
        path = write_c3d(data, tmp_path / "a.c3d", units, processor)
        raw = path.read_bytes()
        assert raw[512 + 3] == processor and b"LABELS2" in raw
        back = read_c3d(path)
        assert np.isnan(back.points[2:4, 7]).all() and np.isnan(back.points).sum() == 6 and np.nanmax(np.abs(back.points - points)) < 1e-6
        assert back.names[299] == "M299" and any("prefix removed: Anna" in n for n in back.notes) and back.units == units
        for cut in (100, 600, len(raw) // 2):
            (tmp_path / "cut.c3d").write_bytes(raw[:cut])
            sentence(read_c3d, tmp_path / "cut.c3d")
    claim = bytearray(raw)
    claim[2:4] = struct.pack(">H", 65535)
    (tmp_path / "big.c3d").write_bytes(claim)
    assert "65535 points" in sentence(check_c3d_header, tmp_path / "big.c3d")
    claim = bytearray(raw)
    claim[512 + 3] = 99
    (tmp_path / "odd.c3d").write_bytes(claim)
    assert "parameter section is missing or damaged" in sentence(read_c3d, tmp_path / "odd.c3d")


def test_case_62_amc_without_asf_and_asf_in_radians(tmp_path):
    amc = text(tmp_path / "07_01.amc", AMC)
    assert "expected 07.asf beside it" in sentence(read_amc, amc, error=FileNotFoundError)
    text(tmp_path / "07.asf", ASF)
    degrees = read_amc(amc)
    (tmp_path / "r").mkdir()
    text(tmp_path / "r/07.asf", ASF.replace("angle deg", "angle rad").replace("0 0 90 XYZ", f"0 0 {RAD!r} XYZ"))
    rad = text(tmp_path / "r/07_01.amc", AMC.replace(":DEGREES", ":RADIANS").replace("90", repr(RAD)))
    assert np.allclose(read_amc(rad).points, degrees.points)
    unsaid = read_amc(text(rad, rad.read_text().replace(":RADIANS\n", "")))
    assert np.allclose(unsaid.points, degrees.points) and any("taken as rad" in n for n in unsaid.notes)
    mixed = read_amc(amc, tmp_path / "r/07.asf")
    assert np.allclose(mixed.points, degrees.points) and any("each is read in its own unit" in n for n in mixed.notes)
    unit = 0.0254 / 0.45
    # the root's quarter turn about z lifts the bone from x to y; frame 1 turns it about its own x axis, the body's y at rest, so it points to -z
    assert np.allclose(degrees.points[1], np.array([[1, 2, 3], [1, 5, 3]]) * unit) and np.allclose(degrees.points[0, 1], np.array([1, 2, 0]) * unit)
    assert "bone 'upper' has no line" in sentence(read_amc, text(tmp_path / "cut.amc", AMC[:-len("upper 0 0 0\n")]), tmp_path / "07.asf")
    other = text(tmp_path / "other.amc", AMC.replace("upper", "leg"))
    assert "found 'leg'" in sentence(read_amc, other, tmp_path / "07.asf")
