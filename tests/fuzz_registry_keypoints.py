"""Small valid files and readers of the 2D keypoint formats, for the fuzz runs."""
import numpy as np

from humanbody.data.files import save_json
from humanbody.data.keypoint_files import (read_alphapose, read_coco_annotations, read_coco_results, read_detections, read_mediapipe, read_mmpose, read_openpose,
                                           read_vitpose)
from humanbody.data.keypoint_writers import detections_of, write_detections
from humanbody.data.tracks import read_keypoints, sequences
from humanbody.sequence import Keypoints2D
from humanbody.skeleton import skeleton_from_dict

FIVE = skeleton_from_dict(dict(name="five", joints=["hub", "left_tip", "right_tip", "top", "tail"], bones=[[0, 1], [0, 2], [0, 3], [3, 4]]))
SIZE = (640, 480)


def _people():
    rng = np.random.default_rng(0)
    xy = rng.uniform(20, 400, (2, 3, 5, 2)).round(1)
    return detections_of([Keypoints2D(x, FIVE, SIZE, 25, np.full((3, 5), 0.5), frames=np.array([0, 1, 3]), info=dict(person=k)) for k, x in enumerate(xy)])


def _writer(fmt):
    def write(path):
        path = path.with_suffix(".json")
        if fmt == "openpose_file":
            return save_json(path, dict(version=1.3, people=[dict(pose_keypoints_2d=[1.5, 2, 0.5] * 5), dict(pose_keypoints_2d=[])]), indent=None)
        if fmt == "alphapose_open":
            return save_json(path, {f"{t}.jpg": dict(version="AlphaPose v0.3", people=[dict(pose_keypoints_2d=[1.5 + t, 2, 0.5] * 5)]) for t in range(3)}, indent=None)
        if fmt == "mediapipe_lists":
            return save_json(path, [[[0.1, 0.2, 0.3, 0.9]] * 5, None, [[[0.1, 0.2, 0.3, 0.9]] * 5]], indent=None)
        return write_detections(_people(), path, fmt)

    return write


def _read(path):
    """Read, link and lay out, as a user does."""
    det = read_detections(path, skeleton=FIVE, size=SIZE)
    sequences(det, "all", SIZE)
    sequences(det, "main", SIZE, link="link")


FORMATS = ("alphapose", "coco_results", "coco", "mmpose", "vitpose", "mediapipe", "openpose_file", "alphapose_open", "mediapipe_lists")
READERS = {f"read_keypoints, {fmt}": (_writer(fmt), _read) for fmt in FORMATS}

CALLS = dict(alphapose=read_alphapose, coco_results=read_coco_results, coco=read_coco_annotations, mmpose=read_mmpose, vitpose=read_vitpose, mediapipe=read_mediapipe,
             openpose_file=read_openpose)
READERS |= {f"{call.__name__}": (_writer(fmt), lambda p, call=call: call(p, skeleton=FIVE, size=SIZE)) for fmt, call in CALLS.items()}
READERS["read_keypoints"] = _writer("coco"), lambda p: read_keypoints(p, skeleton=FIVE, size=SIZE)
