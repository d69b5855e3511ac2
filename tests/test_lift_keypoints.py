"""Keypoints to metres through exported files, detectors' layouts and a person finder: what the notebooks 44a to 44c leave to larger tests."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from humanbody.body import load_body
from humanbody.camera import look_at
from humanbody.cliplifters import open_lifter
from humanbody.data.tracks import convert_keypoints, read_keypoints
from humanbody.sequence import Keypoints2D
from humanbody.skeleton import flip, get_skeleton, skeleton_from_dict
from humanbody.windows import flip_averaged
from humanbody.world import lift_person


def seen(skeleton: str, T: int = 40) -> Keypoints2D:
    "Return a standing body's keypoints with noise and gaps."
    g, sk = np.random.default_rng(0), get_skeleton(skeleton)
    body = load_body("free")
    pose = torch.as_tensor(np.cumsum(g.normal(0, 0.01, (T, 24, 3)), 0), dtype=torch.float32)
    x = body.joints(torch.zeros(T, body.num_betas), pose, None, skeleton=skeleton).double().numpy()
    eye = look_at((2.5, 1.5, 3.5), (0, 0, 0), size=(1280, 960))
    conf = (g.random(x.shape[:2]) > 0.05) * g.uniform(0.5, 1, x.shape[:2])
    conf[20:22] = 0
    xy = np.where(conf[..., None] > 0, eye.project_world(x) + g.normal(0, 1, (*x.shape[:2], 2)), np.nan)
    return Keypoints2D(xy, sk, eye.size, 25.0, conf, eye)


def test_exported_lifter_gives_the_same_metres(tmp_path):
    pytest.importorskip("onnxruntime"), pytest.importorskip("onnxscript")
    from humanbody.deployment import export_weights
    from humanbody.inference import _weights_folder
    export_weights(_weights_folder() / "temporal_h36m_17.safetensors", tmp_path / "a.onnx")
    lifter, kp = open_lifter(tmp_path / "a.onnx"), seen("h36m_17")
    up = kp.camera_model.up_cam((0, 1, 0))
    for average in (False, True):
        a, b = (lift_person(kp, l, up=up, flip_average=average, max_gap=0).joints for l in (lifter, "temporal_h36m_17"))
        np.testing.assert_allclose(a, b, atol=1e-4)
        assert np.isnan(a[20:22]).all()


def people(frames: int, points: int) -> np.ndarray:
    "Return points (T,2,J,3) of two people who stand apart."
    g = np.random.default_rng(1)
    x = g.uniform(100, 300, (1, 1, points, 2)) + [[[[0, 0]], [[400, 0]]]] + np.arange(frames)[:, None, None, None] * [2.0, 1.0]
    return np.concatenate([x, np.full((*x.shape[:3], 1), 0.9)], -1)


def layouts(folder) -> dict:
    "Write two people in five layouts; return layout -> path, in the order of the issue."
    halpe, body25, coco, pipe = people(6, 26), people(6, 25), people(6, get_skeleton("coco_17").num_joints), people(6, 33)
    out = {n: folder / f"{n}.json" for n in ("alphapose", "mmpose", "coco", "mediapipe")}
    out["alphapose"].write_text(json.dumps([dict(image_id=f"{t}.jpg", category_id=1, keypoints=halpe[t, p].ravel().tolist(), score=2.0, idx=p + 1) for t in range(6) for p in range(2)]))
    out["mmpose"].write_text(json.dumps(dict(meta_info={}, instance_info=[dict(frame_id=t, instances=[dict(keypoints=coco[t, p, :, :2].tolist(), keypoint_scores=coco[t, p, :, 2].tolist()) for p in range(2)]) for t in range(6)])))
    out["coco"].write_text(json.dumps([dict(image_id=t, category_id=1, keypoints=coco[t, p].ravel().tolist(), score=0.9) for t in range(6) for p in range(2)]))
    out["mediapipe"].write_text(json.dumps(dict(width=1000, height=800, frames=[dict(pose_landmarks=[[dict(x=a / 1000, y=b / 800, z=0.0, visibility=c) for a, b, c in pipe[t, p].tolist()] for p in range(2)]) for t in range(6)])))
    (folder / "openpose").mkdir()
    for t in range(6):
        (folder / f"openpose/clip_{t:012d}_keypoints.json").write_text(json.dumps(dict(version=1.3, people=[dict(person_id=[-1], pose_keypoints_2d=body25[t, p].ravel().tolist()) for p in range(2)])))
    return out | {"openpose": folder / "openpose"}


@pytest.mark.parametrize("layout", ["alphapose", "openpose", "mmpose", "coco", "mediapipe"])
def test_every_layout_becomes_poses_of_two_people(tmp_path, layout):
    from humanbody.inference import assumed_camera
    found = read_keypoints(layouts(tmp_path)[layout], size=(1000, 800), fps=25.0, person="all")
    assert len(found) == 2
    for kp in found:
        seq = lift_person(convert_keypoints(kp, "h36m_17"), "temporal_h36m_17", assumed_camera(kp.size), flip_average=True, stature_m=1.7)
        assert seq.joints.shape == (6, get_skeleton("h36m_17").num_joints, 3) and np.isfinite(seq.joints).all()


def test_one_wrong_flip_pair_is_noticed():
    sk = get_skeleton("h36m_17")
    record = sk.to_dict() | {"name": "wrong_17", "joints": list(sk.joints), "left_right_pairs": [list(p) for p in sk.pairs[1:]]}
    wrong = skeleton_from_dict(record)
    net = torch.nn.Linear(3, 3)
    weight = torch.randn(sk.num_joints, 3, generator=torch.Generator().manual_seed(0))
    model, x = lambda c: net(c) * weight, torch.randn(1, 5, sk.num_joints, 3, generator=torch.Generator().manual_seed(1))
    gap = lambda table: float((flip_averaged(model, table)(flip(x, sk)) - flip(flip_averaged(model, table)(x), sk)).abs().max())
    with torch.inference_mode():
        assert gap(sk) < 1e-5 < 1e-2 < gap(wrong)


def test_person_finder_reads_a_local_detector(tmp_path):
    tf = pytest.importorskip("transformers")
    from humanbody.video import detect_vitpose, person_finder
    config = tf.YolosConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32], patch_size=16, num_detection_tokens=4, id2label={0: "person"}, label2id={"person": 0})
    torch.manual_seed(0)
    tf.YolosForObjectDetection(config).save_pretrained(tmp_path)
    tf.YolosImageProcessor(size=dict(height=32, width=32)).save_pretrained(tmp_path)
    boxes = person_finder(tmp_path, threshold=0.0)(np.zeros((48, 64, 3), np.uint8))
    assert boxes.shape[1] == 5 and len(boxes) and (boxes[:, 2:4] >= 0).all()
    with pytest.raises(FileNotFoundError, match="expected a folder with"):
        detect_vitpose([(0, np.zeros((8, 8, 3), np.uint8))], tmp_path / "none")
