"""The image demo on folders as they come: damaged and unusual pictures, bad boxes and masks, nobody, a video, a missing detector."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from humanbody.body import load_body
from humanbody.image_inference import PictureResult, load_people, open_image_model, people_sequences, predict_pictures, skip_table
from humanbody.image_people import Skip, box_finder, read_pictures
from humanbody.mesh_export import read_glb, read_obj, write_glb

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def body():
    torch.set_num_threads(1)
    return load_body("free")


def mixed_folder(folder: Path) -> Path:
    "Write one picture of every kind."
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a_good.png")
    Image.fromarray(noise).convert("CMYK").save(folder / "b_cmyk.jpg")
    Image.fromarray((noise[..., 0].astype(np.uint16) << 8)).save(folder / "c_16bit.png")
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(noise).save(folder / "d_turned.jpg", exif=exif)
    (folder / "e_cut.jpg").write_bytes((folder / "b_cmyk.jpg").read_bytes()[:200])
    (folder / "f_empty.png").touch()
    Image.fromarray(noise).save(folder / "g_nobody.png")
    (folder / "readme.txt").write_text("no picture")
    return folder


BOXES = "image,x,y,width,height\na_good.png,10,4,20,40\na_good.png,500,4,20,40\na_good.png,10,4,0,0\nb_cmyk.jpg,0,0,64,48\nc_16bit.png,-200,-200,20,20\nd_turned.jpg,0,0,48,64\ne_cut.jpg,0,0,9,9\n"


def test_run_goes_on_and_counts(tmp_path):
    pytest.importorskip("nbformat")
    folder, out = mixed_folder(tmp_path / "pictures"), tmp_path / "out"
    (tmp_path / "boxes.csv").write_text(BOXES)
    (tmp_path / "p.yaml").write_text(f"source: {folder}\nboxes: file\nboxes_path: {tmp_path / 'boxes.csv'}\nmodel: untrained\nshown: 1\nout: {out}\n")
    done = subprocess.run([sys.executable, "-m", "humanbody.runner", "run", "nbs/runs/demo_image.ipynb", "--params", str(tmp_path / "p.yaml")], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    m = json.loads((out / "metrics.json").read_text())["metrics"]
    assert {k: m[k] for k in ("pictures", "people", "skipped_picture", "skipped_box", "skipped_nobody")} == dict(pictures=5, people=3, skipped_picture=2, skipped_box=3, skipped_nobody=1)
    assert len(m["left_out"]) == 6 and all(r["picture"] in r["reason"] and r["reason"].count("\n") == 0 for r in m["left_out"])
    assert m["sequences"] == 3 and m["model"] == "untrained" and (out / "left_out.csv").is_file()
    people, shown = load_people(out / "people.npz"), next(out.glob("*.glb"))
    assert people["size_px"].tolist() == [[64, 48], [64, 48], [48, 64]]
    glb, obj = read_glb(shown), read_obj(shown.with_suffix(".obj"))
    assert all(np.abs(glb[k][0] - obj[k.replace(" ", "_")][0]).max() < 1e-5 for k in glb)
    page = next(out.glob("viewer_*.html")).read_text()
    assert "http://" not in page.split("<script")[0] and len(page) > 1e5


def test_masks_that_do_not_fit_and_empty_ones(tmp_path, body):
    folder, masks = mixed_folder(tmp_path / "pictures"), tmp_path / "masks"
    masks.mkdir()
    m = np.zeros((48, 64), np.uint8)
    m[10:40, 20:40] = 255
    for name, x in (("a_good_0", m), ("a_good_1", 0 * m), ("b_cmyk", m[:, :30])): Image.fromarray(x).save(masks / f"{name}.png")
    (masks / "c_16bit.png").write_bytes(b"broken")
    results = list(predict_pictures(open_image_model("untrained"), body, read_pictures(folder), box_finder("masks", masks)))
    rows, count = skip_table(results)
    assert count["people"] == 1 and count["skipped_box"] == 3 and count["skipped_nobody"] == 2 and count["skipped_picture"] == 2, count
    assert sum("empty one" in r["reason"] for r in rows) == 1 and sum("belongs to another" in r["reason"] for r in rows) == 1


def test_nobody_at_all_and_no_picture(tmp_path, body):
    folder = mixed_folder(tmp_path / "pictures")
    (tmp_path / "boxes.json").write_text("{}")
    results = list(predict_pictures(open_image_model("untrained"), body, read_pictures(folder), box_finder("file", tmp_path / "boxes.json")))
    assert skip_table(results)[1] == dict(pictures=5, people=0, skipped_nobody=5, skipped_picture=2) and people_sequences(results, body) == []
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="found none"): list(read_pictures(tmp_path / "none"))


def test_a_missing_file_is_a_skip(tmp_path):
    got = list(read_pictures(tmp_path / "gone.png"))
    assert len(got) == 1 and isinstance(got[0], Skip) and "gone.png" in got[0].reason


def test_video_gives_one_sequence_per_person(tmp_path, body):
    pytest.importorskip("av")
    from humanbody.video import write_video
    frames = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), np.uint8)
    write_video(tmp_path / "clip.mp4", iter(frames), 25.0)
    boxes = {f"clip_{t:06d}": [[5 + t, 5, 20, 40], [40 - t, 5, 20, 40]][::(-1) ** t] for t in range(0, 6, 2)}
    (tmp_path / "boxes.csv").write_text("image,x,y,width,height\n" + "".join(f"{k},{','.join(map(str, b))}\n" for k, v in boxes.items() for b in v))
    results = list(predict_pictures(open_image_model("untrained"), body, read_pictures(tmp_path / "clip.mp4", every=2), box_finder("file", tmp_path / "boxes.csv")))
    assert [r.picture.frame for r in results] == [0, 2, 4] and all(isinstance(r, PictureResult) for r in results)
    seqs = people_sequences(results, body, 12.5)
    assert [s.frames.tolist() for s in seqs] == [[0, 2, 4]] * 2 and seqs[0].fps == 12.5
    assert seqs[0].body["trans"][0, 0] < seqs[1].body["trans"][0, 0]  # the left one stays the left one
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:400])
    with pytest.raises(ValueError, match="cut.mp4"): list(read_pictures(tmp_path / "cut.mp4"))


def test_people_file_of_odd_content(tmp_path, body):
    """A damaged people file names itself; found by the fuzz run: info that is JSON, but no dictionary."""
    people = dict(picture=np.array(["a"]), frame=np.zeros(1), person=np.zeros(1), box_px=np.zeros((1, 3)), rotmats=np.zeros((1, 24, 3, 3)), betas=np.zeros((1, 10)), camera=np.zeros((1, 3)),
                  crop_trans=np.zeros((1, 3)), full_trans=np.zeros((1, 3)), full_weak=np.zeros((1, 4)), focal_px=np.zeros(1))
    for info in ("[1]", "7", "{", '{"format": "other"}'):
        np.savez(tmp_path / "p.npz", info=np.array(info), **people)
        with pytest.raises(ValueError, match="p.npz: expected people"): load_people(tmp_path / "p.npz")


def test_detector_without_transformers_says_how(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install"): box_finder("detector", tmp_path)


def test_a_local_detector_finds_the_people(tmp_path, body):
    """A tiny detector of transformers that always sees one person in the middle: its box comes through to the mesh, a high threshold leaves nobody."""
    tf = pytest.importorskip("transformers")
    config = tf.YolosConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[32, 32], patch_size=16, num_detection_tokens=1, id2label={0: "person"}, label2id={"person": 0})
    net = tf.YolosForObjectDetection(config)
    with torch.no_grad():
        for head, last in ((net.class_labels_classifier, torch.tensor([1.0, 0.0])), (net.bbox_predictor, torch.logit(torch.tensor([0.5, 0.5, 0.4, 0.8])))):
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.copy_(last)
    net.save_pretrained(tmp_path / "detector")
    tf.YolosImageProcessor(size=dict(height=32, width=32)).save_pretrained(tmp_path / "detector")
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 80, 3), dtype=np.uint8)).save(tmp_path / "in" / "a.png")
    find = lambda threshold: box_finder("detector", tmp_path / "detector", 1.0, threshold)
    (result,) = predict_pictures(open_image_model("untrained"), body, read_pictures(tmp_path / "in"), find(0.5))
    box = result.people[0].box
    np.testing.assert_allclose(box.center, (40, 50), atol=1)
    assert abs(200 * box.scale - 80) < 1.5 and abs(box.score - 1 / (1 + np.exp(-1))) < 1e-3
    (nobody,) = predict_pictures(open_image_model("untrained"), body, read_pictures(tmp_path / "in"), find(0.9))
    assert not nobody.people and [s.what for s in nobody.skipped] == ["nobody"]


def test_glb_opens_elsewhere(tmp_path, body):
    trimesh = pytest.importorskip("trimesh")
    path = write_glb(tmp_path / "a.glb", {"one": body.v_template.numpy()}, body.faces.numpy())
    scene = trimesh.load(path)
    mesh = next(iter(scene.geometry.values()))
    assert len(mesh.faces) == len(body.faces) and 0.03 < mesh.volume < 0.15
