"""Malformed native image sets: each is refused in one sentence, or read with a note that says what was done."""
import json

import numpy as np
import pytest
from fuzz_registry_sets import READERS, cameras, lsp_rows, mpii_rows, person, pixels, sequence, training_video

from humanbody.data.boxes import guess_box_rule
from humanbody.data.guesses import guess_joint_order, guess_pose_unit, guess_units, regressor_report
from humanbody.data.imagerows import check_images, with_images
from humanbody.data.sets_2d import read_mpii_json, write_mpii_json
from humanbody.data.sets_3d import read_3dhp_train, read_calibration, write_3dhp_train, write_calibration
from humanbody.data.sets_h36m import h36m_rows, match_rows, pw3d_rows
from humanbody.data.sets_lsp import lsp_joints, read_lsp, read_lspet, write_lsp
from humanbody.skeleton import get_skeleton


def refused(call, *words, error=ValueError):
    """Assert that the call is refused in one sentence that holds the words."""
    with pytest.raises(error) as e: call()
    text = str(e.value)
    assert "\n" not in text and "expected" in text and "found" in text and "; " in text, text
    for word in words: assert word in text, text


def noted(rows, *words):
    """Assert that one note of the rows holds each word."""
    for word in words: assert any(word in note for note in rows.notes), rows.notes
    return rows


def h36m(joints, **changes):
    """Make Human3.6M rows of joints (F,17,3), given in metres."""
    return h36m_rows([dict(dict(subject="S1", action="Walking", camera="60457274", joints3d=joints, joints2d=pixels(person("h36m_17", len(joints)))), **changes)],
                     "train", unit="m", step=1)


def test_case_29_annotated_image_missing(tmp_path):
    from PIL import Image
    path = write_mpii_json(mpii_rows(5), tmp_path / "mpii.json")
    images = tmp_path / "images"
    (images / "1.jpg").mkdir(parents=True)
    (images / "2.jpg").touch()
    (images / "3.jpg").write_bytes(b"\xff\xd8 cut")
    Image.new("L", (4, 4)).save(images / "4.jpg")
    rows = read_mpii_json(path)
    faults = check_images(rows.images, images, decode=True)
    assert {k: len(v) for k, v in faults.items()} == {"missing": 1, "a folder": 1, "empty": 1, "unreadable": 1}
    kept = noted(with_images(rows, images, decode=True), "1 missing (first 0.jpg)", "4 rows left out")
    assert kept.images == ["4.jpg"] and len(with_images(rows, images, "note", decode=True)) == 5
    refused(lambda: with_images(rows, images, "error"), "1 missing", error=FileNotFoundError)
    refused(lambda: with_images(rows, tmp_path / "elsewhere"), "5 missing", "check the image folder", error=FileNotFoundError)


@pytest.mark.parametrize("factor, word", [(1000, "mm"), (100, "cm"), (0.001, "span of 0.000")])
def test_case_33_metres_and_millimetres(tmp_path, factor, word):
    x = person("h36m_17", 6)
    refused(lambda: h36m(x * factor), "h36m train", "in metres", word, "pass the unit they have")
    if factor == 1000: np.testing.assert_allclose(h36m_rows([dict(subject="S1", action="Walking", camera="60457274", joints3d=x * 1000, joints2d=pixels(x))], "train")
                                                  .labels["joints3d/h36m_17"][0, :, :3], x[0])
    p2, p3 = training_video(4)
    write_3dhp_train(tmp_path, {("S1", "Seq1"): {0: (p2, p3 * factor)}})
    refused(lambda: read_3dhp_train(tmp_path, pictures=False), "mpi-inf-3dhp train", word)
    assert guess_units(x * factor).unit == {1000: "mm", 100: "cm"}.get(factor, "unknown")


def test_case_34_y_up_instead_of_y_down():
    x = person("h36m_17", 6)
    assert not any("up is" in n for n in h36m(x).notes)
    noted(h36m(x * [1, -1, -1] + [0, 0, 8]), "up is +y, not the -y of a camera frame")
    noted(h36m((x * [1, -1, 1])[..., [0, 2, 1]]), "up is +z")


def test_case_35_left_and_right_swapped():
    sk = get_skeleton("h36m_17")
    x, regressor_order = person("h36m_17", 6), person("h36m_17_spin_regressor", 6)
    noted(h36m(x[:, sk.flip_perm]), "left and right are exchanged or one axis is mirrored")
    noted(h36m(regressor_order), "the legs are exchanged against the arms, as h36m_17_spin_regressor has them")
    assert not any("sides" in n for n in h36m(x).notes)
    assert guess_joint_order(regressor_order).skeleton == "h36m_17_spin_regressor" and guess_joint_order(x).skeleton == "h36m_17"


def test_case_36_absolute_and_centred():
    x = person("h36m_17", 6)
    root = get_skeleton("h36m_17").root
    noted(h36m(x - x[:, [root]]), "relative to the root already")
    assert not any("relative" in n for n in h36m(x).notes)
    assert guess_units(x, "h36m_17").origin == "absolute" and guess_units(x - x[:, [root]], "h36m_17").origin == "root-centred"


def test_case_47_joints_in_the_other_axis_order(tmp_path):
    rows = lsp_rows(5)
    native, other = write_lsp(rows, tmp_path / "lsp.mat"), write_lsp(rows, tmp_path / "other.mat", "14,3,N")
    a, b = noted(read_lsp(native), "axis order 3,14,N"), noted(read_lsp(other), "axis order 14,3,N")
    for key in a.labels: np.testing.assert_array_equal(a.labels[key], b.labels[key])
    np.testing.assert_array_equal(read_lspet(native).labels["raw/lsp_14"], read_lspet(other).labels["raw/lsp_14"])
    refused(lambda: lsp_joints(np.zeros((2, 14, 9)), "joints.mat"), "joints.mat", "(3,14,N)", "(2, 14, 9)")


def test_case_48_calibration_file(tmp_path):
    path, cams = tmp_path / "camera.calibration", cameras((0, 1, 2))
    read_calibration(write_calibration(path, cams), need=[0, 2])
    for options in (dict(newline="\r\n"), dict(comma=True), dict(newline="\r\n", comma=True)):
        got = read_calibration(write_calibration(path, cams, **options))
        for k, c in cams.items():
            np.testing.assert_allclose(got[k].K, c.K)
            np.testing.assert_allclose(got[k].t, c.t)
    refused(lambda: read_calibration(path, need=[0, 7]), "cameras [0, 7]", "found [0, 1, 2]")
    text = write_calibration(path, cams).read_text()
    path.write_text(text.replace("1500.5", "15,00.5", 1))
    refused(lambda: read_calibration(path), "line 6", "16 numbers")
    path.write_text("\n".join(text.splitlines()[:6]))
    refused(lambda: read_calibration(path), "camera 0", "'extrinsic'")
    path.write_text("nonsense\nmore")
    refused(lambda: read_calibration(path), "a line 'name'")
    refused(lambda: read_calibration(tmp_path / "none"), "camera file", error=FileNotFoundError)


def test_case_49_video_absent_or_a_frame_off(tmp_path):
    write_3dhp_train(tmp_path, {("S1", "Seq1"): {0: training_video(4), 1: training_video(4), 2: training_video(4)}})
    for video, frames in ((0, 5), (1, 3)):
        folder = tmp_path / f"S1/Seq1/imageFrames/video_{video}"
        folder.mkdir(parents=True)
        for n in range(1, frames + 1): (folder / f"frame_{n:06d}.jpg").touch()
    rows = noted(read_3dhp_train(tmp_path, step=1), "video_2: no pictures", "5 pictures for 4 annotated frames, the last was left out",
                 "3 pictures for 4 annotated frames, matched by number", "video_4: no annotated frames", "sequences not there: S1/Seq2")
    assert len(rows) == 7
    for n in (1, 2): (tmp_path / f"S1/Seq1/imageFrames/video_0/frame_{n:06d}.jpg").unlink()  # the others keep their own annotation
    by_number = read_3dhp_train(tmp_path, step=1)
    shared = match_rows(by_number.images, by_number.center, rows.images, rows.center)
    assert len(by_number) == 5 and (shared >= 0).all()
    (tmp_path / "S1/Seq1/imageFrames/video_0/frame_000009.jpg").touch()
    refused(lambda: read_3dhp_train(tmp_path), "picture numbers 1 to 4", "found 3 to 9")


def test_case_50_3dpw_without_visible_joint_or_camera():
    a, b = sequence(4, 2, "downtown_b_01"), sequence(4, 1, "downtown_a_00")
    a["poses2d"][0] = a["poses2d"][0].copy()
    a["poses2d"][0][1, 2] = 0
    a["campose_valid"][1][:] = 0
    rows = noted(pw3d_rows([a, b]), "1 person-frames without a visible joint left out", "4 person-frames without a valid camera left out")
    assert rows.images == pw3d_rows([b, a]).images and len(rows) == 7 and rows.images[0].startswith("imageFiles/downtown_a_00/")
    order = np.random.default_rng(0).permutation(len(rows))
    mixed = rows.take(order)
    np.testing.assert_array_equal(order[match_rows(rows.images, rows.center, mixed.images, mixed.center)], np.arange(len(rows)))
    refused(lambda: pw3d_rows(dict(b, campose_valid=[np.zeros(4)])), "found none", "check campose_valid")
    refused(lambda: pw3d_rows(dict(b, poses2d=[b["poses2d"][0].transpose(0, 2, 1)])), "downtown_a_00, person 0", "the joint is the last axis")


@pytest.mark.parametrize("shape, words", [((9, 6890), ["extra (SPIN)"]), ((14, 6890), ["extra (GraphCMR)", "5 face vertices"]), ((11, 6890), ["fit none of 9, 14"]),
                                          ((6890, 17), ["transposed"]), ((17, 778), ["778 columns where a body has 6890"]), ((17, 6890), ["leg order not told"])])
def test_case_58_regressor_of_another_size(shape, words):
    m = np.zeros(shape)
    m[np.arange(min(shape)), np.arange(min(shape))] = 1
    report = regressor_report(m)
    for word in words: assert word in report.sentence
    assert bool(report.problems) == (shape not in ((9, 6890), (14, 6890), (17, 6890)))


@pytest.mark.parametrize("side, skeleton", [(1, "h36m_17_spin_regressor"), (4, "h36m_17")])
def test_case_58_regressor_leg_order(side, skeleton):
    m = np.zeros((17, 6890))
    m[np.arange(17), 2000 + np.arange(17)] = 1
    m[side] = np.eye(1, 6890, 807)
    assert regressor_report(m).skeleton == skeleton


@pytest.mark.parametrize("name", READERS)
def test_registered_readers_read_what_their_writers_write(tmp_path, name):
    write, read = READERS[name]
    assert read(write(tmp_path / "file")) is not None


def test_box_rule_of_rows_read_back(tmp_path):
    rows = read_lspet(write_lsp(lsp_rows(20), tmp_path / "joints.mat", "14,3,N"))
    guess = guess_box_rule(rows.save(tmp_path / "store"))
    assert guess.rule == "joints_1.2" and json.dumps(guess.sentence)


@pytest.mark.parametrize("what", [None, 3, [None], [sequence(), "x"]])
def test_fuzz_found_3dpw_value_that_is_no_sequence(what):
    refused(lambda: pw3d_rows(what), "3dpw test", "dictionaries")


def test_fuzz_found_guesses_of_objects():
    for call in (guess_units, guess_joint_order, guess_pose_unit): refused(lambda: call(np.array({"a": 1}, dtype=object)), "numbers")


def test_fuzz_found_up3d_rendering_that_claims_a_hundred_million_pixels(tmp_path):
    """97 bytes took 355 MB."""
    import struct
    import tracemalloc
    import zlib
    write, read = READERS["up-3d rendering"]
    path = write(tmp_path / "a")
    data = path.read_bytes()
    header = b"IHDR" + data[16:20] + b"\x00NaN" + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    tracemalloc.start()
    refused(lambda: read(path), path.name, "pixels")
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 8 * 2**20, held
