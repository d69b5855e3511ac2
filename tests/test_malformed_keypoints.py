"""Malformed 2D keypoint files (the cases of the data formats text, by number): each ends in one clear sentence or the stated fallback."""
import json

import numpy as np
import pytest

from humanbody.data.keypoint_files import read_alphapose, read_coco_results, read_detections, read_mediapipe, read_openpose
from humanbody.data.keypoint_writers import detections_of, write_alphapose, write_detections
from humanbody.data.tracks import convert_keypoints, read_keypoints, sequences, wild_input
from humanbody.sequence import Keypoints2D
from humanbody.skeleton import get_skeleton, skeleton_from_dict

SIZE = (640, 480)


def points(joints, seed=0, conf=0.8, shift=0.0):
    """Return flat x,y,confidence of a standing figure."""
    xy = np.random.default_rng(seed).uniform(0, 1, (joints, 2)) * [80, 240] + 60 + np.array([shift, 0.0])
    return np.column_stack([xy, np.full(joints, conf)])


def entry(frame, joints=17, seed=0, name="{}.jpg", **more):
    change = {k: more.pop(k) for k in ("conf", "shift") if k in more}
    return dict(image_id=name.format(frame), category_id=1, keypoints=points(joints, seed, **change).ravel().tolist(), score=1.5, box=[60, 60, 80, 240], **more)


def write(path, value):
    """Write JSON text (NaN and Infinity as Python does) or the text itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def fault(call, *words):
    """Check that a call ends in one sentence that says these words."""
    with pytest.raises(ValueError) as e: call()
    text = str(e.value)
    assert "\n" not in text and all(w in text for w in words), text
    return text


def noted(seq, *words):
    notes = seq.info["notes"] if isinstance(seq, Keypoints2D) else seq.notes
    assert any(all(w in n for w in words) for n in notes), notes


def test_case_14_nan_or_inf_keypoints(tmp_path):
    rows = [entry(t) for t in range(3)]
    rows[1]["keypoints"][0] = float("nan")
    rows[2]["keypoints"][4] = float("inf")
    k = read_keypoints(write(tmp_path / "a.json", rows), size=SIZE, fps=30)
    assert np.isnan(k.xy_px[1, 0]).all() and k.confidence[1, 0] == 0 and np.isnan(k.xy_px[2, 1]).all() and k.confidence[2, 1] == 0
    assert np.isfinite(k.xy_px).all(-1).sum() == 3 * 17 - 2
    noted(k, "2 points", "not finite")


def test_case_15_confidence_zero_with_nan(tmp_path):
    rows = [entry(t) for t in range(3)]
    rows[1]["keypoints"][:6] = [float("nan"), float("nan"), 0, None, None, 0]
    k = read_keypoints(write(tmp_path / "a.json", rows), size=SIZE, fps=30)
    assert np.isnan(k.xy_px[1, :2]).all() and (k.confidence[1, :2] == 0).all() and (k.confidence[[0, 2]] == 0.8).all()
    assert not any("not finite" in n for n in k.info["notes"])  # nothing odd: it was not seen
    assert np.isfinite(wild_input(convert_keypoints(k, "h36m_17"), "pixel")).all()


def test_case_16_confidence_above_one_or_negative(tmp_path):
    rows = [entry(t) for t in range(3)]
    rows[0]["keypoints"][2], rows[1]["keypoints"][5] = 1.069, -0.2
    d = read_detections(write(tmp_path / "a.json", rows))
    assert d.confidence.max() == 1 and d.confidence[0, 0] == 1 and d.confidence[1, 1] == 0 and np.isnan(d.xy_px[1, 1]).all()
    noted(d, "above 1", "1.069")
    noted(d, "below 0")


def test_case_17_confidence_in_percent(tmp_path):
    d = read_detections(write(tmp_path / "a.json", [entry(t, conf=c) for t, c in enumerate((85.0, 40.0, 100.0))]))
    np.testing.assert_allclose(d.confidence[:, 0], [0.85, 0.4, 1.0])
    noted(d, "percent")
    odd = write(tmp_path / "b.json", [entry(t, conf=c) for t, c in enumerate((850.0, 400.0, 10.0))])
    fault(lambda: read_detections(odd), "b.json", "confidence_scale")
    np.testing.assert_allclose(read_detections(odd, confidence_scale=1000.0).confidence[:, 0], [0.85, 0.4, 0.01])


def test_case_18_all_joints_missing_in_a_frame(tmp_path):
    rows = [entry(t) for t in range(4)]
    rows[2]["keypoints"] = [0.0] * 51
    k = read_keypoints(write(tmp_path / "a.json", rows), size=SIZE, fps=30)
    assert len(k) == 4 and np.isnan(k.xy_px[2]).all() and (k.confidence[2] == 0).all()
    nobody = write(tmp_path / "b.json", [dict(r, keypoints=[0.0] * 51) for r in rows])
    fault(lambda: read_keypoints(nobody, size=SIZE), "b.json", "at least one joint")


def test_case_19_empty_people_list(tmp_path):
    fault(lambda: read_openpose(write(tmp_path / "a_keypoints.json", dict(version=1.3, people=[]))), "a_keypoints.json", "at least one person")
    for t, people in enumerate(([], [dict(pose_keypoints_2d=points(25).ravel().tolist())], [])):
        write(tmp_path / "op" / f"c_{t:012d}_keypoints.json", dict(version=1.3, people=people))
    k = read_keypoints(tmp_path / "op", size=SIZE, fps=30)
    assert k.frames.tolist() == [0, 1, 2] and np.isnan(k.xy_px[[0, 2]]).all() and np.isfinite(k.xy_px[1]).all()


def test_case_20_keypoints_empty_null_or_not_json(tmp_path):
    for text, word in (("[]", "empty"), ("null", "null"), ("{}", "empty"), ("", "empty"), ("  \n", ""), ("3", "int"), ('"x"', "str"), ("[1, 2]", "another layout")):
        fault(lambda: read_detections(write(tmp_path / "a.json", text)), "a.json", word)
    fault(lambda: read_detections(write(tmp_path / "a.json", '[{"image_id": "0.jpg",\n "keypoints": [1, 2,, 3]}]')), "a.json", "line 2 column")
    for call in (read_alphapose, read_openpose, read_coco_results, read_mediapipe):
        fault(lambda: call(write(tmp_path / "a.json", "[]")), "a.json")


def test_case_22_frames_unsorted_or_lexicographic(tmp_path):
    order = sorted(range(12), key=lambda t: f"{t}.jpg")  # 0, 1, 10, 11, 2, ...
    rows = [entry(t, shift=float(t)) for t in order]
    k = read_keypoints(write(tmp_path / "a.json", rows), size=SIZE, fps=30)
    assert k.frames.tolist() == list(range(12))
    np.testing.assert_allclose(np.diff(k.xy_px[:, 0, 0]), 1)
    noted(k, "not in order")
    named = [entry(t, name="frame_{:06d}.png", shift=float(t)) for t in (3, 1, 2)]
    assert read_keypoints(write(tmp_path / "b.json", named), size=SIZE, fps=30).frames.tolist() == [1, 2, 3]


def test_case_23_two_people_without_ids(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for t in range(40):  # they walk past each other, in random order in each frame
        pair = [entry(t, seed=1, shift=9.0 * t), entry(t, seed=2, shift=360 - 9.0 * t)]
        rows += pair[:: 1 if rng.random() < 0.5 else -1]
    people = read_keypoints(write(tmp_path / "a.json", rows), size=SIZE, fps=30, person="all")
    assert [len(p) for p in people] == [40, 40]
    for p in people: assert np.abs(np.abs(np.diff(p.xy_px[:, 0, 0])) - 9).max() < 1e-9  # nobody jumps to the other
    noted(people[0], "linked by position", "2 tracks")
    fault(lambda: read_keypoints(tmp_path / "a.json", size=SIZE, link="file"), "no number")


def test_case_24_idx_nested_or_absent(tmp_path):
    rows = [entry(0, idx=[1.0]), entry(1, idx=[[1.0], [1.0]]), entry(2, idx=1), entry(3, idx=[[1.0], [1.0], [1.0]])]
    assert read_detections(write(tmp_path / "a.json", rows)).ids.tolist() == [1, 1, 1, 1]
    del rows[2]["idx"]
    assert read_detections(write(tmp_path / "a.json", rows)).ids.tolist() == [1, 1, -1, 1]
    k = read_keypoints(tmp_path / "a.json", size=SIZE, fps=30)
    assert len(k) == 4 and np.isfinite(k.xy_px).all()
    mixed = read_detections(write(tmp_path / "b.json", [entry(0, idx=[[1.0], [2.0]])]))
    assert mixed.ids.tolist() == [1]
    noted(mixed, "different numbers")
    fault(lambda: read_detections(write(tmp_path / "c.json", [entry(0, idx="a")])), "entry 0", "person number")


def test_case_25_missing_frames(tmp_path):
    k = read_keypoints(write(tmp_path / "a.json", [entry(t) for t in (0, 1, 4, 5, 9)]), size=SIZE, fps=30)
    assert k.frames.tolist() == list(range(10)) and np.flatnonzero(np.isnan(k.xy_px).all((1, 2))).tolist() == [2, 3, 6, 7, 8]
    assert (k.confidence[[2, 3, 6, 7, 8]] == 0).all() and k.info["missing_frames"] == 5
    far = write(tmp_path / "b.json", [entry(0), entry(10**12)])
    fault(lambda: read_keypoints(far, size=SIZE), "b.json", "read_detections")  # no allocation for 10^12 frames
    fifth = read_keypoints(write(tmp_path / "c.json", [entry(5 * t) for t in range(12)]), size=SIZE, fps=50)
    assert len(fifth) == 12 and fifth.fps == 10
    noted(fifth, "every 5th frame")


def test_case_26_number_of_points_fits_no_set(tmp_path):
    p = write(tmp_path / "a.json", [entry(t, joints=25) for t in range(2)])
    fault(lambda: read_detections(p, skeleton="coco_17"), "entry 0", "17 points", "25", "openpose_25")
    fault(lambda: read_detections(write(tmp_path / "b.json", [entry(0, joints=19)])), "19", "pass skeleton=")
    fault(lambda: read_detections(write(tmp_path / "c.json", [dict(entry(0), keypoints=[1.0] * 50)])), "c.json: entry 0", "shape (50,)")
    fault(lambda: read_detections(write(tmp_path / "d.json", [entry(0), entry(1, joints=26)])), "entry 1", "17 points", "26")


def test_case_27_halpe_passed_as_coco(tmp_path):
    p = write(tmp_path / "a.json", [entry(t, joints=26) for t in range(2)])
    fault(lambda: read_keypoints(p, skeleton="coco_17", size=SIZE), "17 points", "26", "skeleton='halpe_26'")
    k = read_keypoints(p, fmt="coco_results", size=SIZE, fps=30)
    assert k.skeleton.name == "halpe_26" and convert_keypoints(k, "h36m_17").skeleton.num_joints == 17


def test_case_28_openpose_old_key_with_18_joints(tmp_path):
    flat = points(18).ravel().tolist()
    flat[42:45] = [0, 0, 0]
    d = read_detections(write(tmp_path / "x_000000000007_keypoints.json", dict(version=1.0, people=[dict(pose_keypoints=flat, face_keypoints=[], hand_left_keypoints=[])])))
    assert d.skeleton.name == "openpose_18" and d.frames.tolist() == [7] and np.isnan(d.xy_px[0, 14]).all()


@pytest.mark.parametrize("name", ["coco_17", "rtm_24", "vehs_66", "five"])
def test_any_skeleton(name, tmp_path):
    five = dict(name="five", joints=["hub", "left_tip", "right_tip", "top", "tail"], bones=[[0, 1], [0, 2], [0, 3], [3, 4]])
    sk = skeleton_from_dict(five) if name == "five" else get_skeleton(name)
    J = sk.num_joints
    xy, conf = np.random.default_rng(0).uniform(20, 400, (9, J, 2)), np.full((9, J), 0.6)
    xy[3], conf[3] = np.nan, 0
    one = Keypoints2D(xy, sk, SIZE, 25, conf)
    write_alphapose(one, tmp_path / "a.json")
    back = read_keypoints(tmp_path / "a.json", skeleton=sk, size=SIZE, fps=25)
    np.testing.assert_array_equal(back.xy_px, xy)
    np.testing.assert_array_equal(back.confidence, conf)
    named = sequences(read_detections(write_detections(detections_of(one), tmp_path / "m.json", "mmpose")), size=SIZE, fps=25)
    assert named.skeleton.joints == sk.joints
    np.testing.assert_array_equal(named.xy_px, xy)
