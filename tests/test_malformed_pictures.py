"""Malformed pictures (cases 29 and 30 of the list of malformed inputs): each is written here and must give one sentence or the stated result."""
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from humanbody.data.augment import Augment
from humanbody.data.images import image_info, load_image, open_rgb
from humanbody.data.imageloader import ImageDataset, collate_images
from humanbody.data.imagestore import ImageStore


def smooth(seed=0, size=(40, 30)):
    """A smooth RGB picture (H,W,3)."""
    rng = np.random.default_rng(seed)
    return np.asarray(Image.fromarray(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC))


def one_sentence(call, *words):
    """Run `call`, expect a one-line error that names all `words`."""
    with pytest.raises((ValueError, FileNotFoundError)) as e: call()
    text = str(e.value)
    assert "\n" not in text and len(text) < 500 and "Traceback" not in text, text
    for w in words: assert w in text, (w, text)
    return text


def store(folder, names):
    """An image store over pictures named `names`."""
    n = len(names)
    kp = np.concatenate([np.full((n, 24, 2), 10.0), np.ones((n, 24, 1))], 2)
    return ImageStore.create(folder / "store", "set", "train", names, np.full((n, 2), 15.0), np.full(n, 0.1), {"keypoints2d/spin_24": kp})


def bad_pictures(folder):
    """Write one picture of every fault and return {name: word of its error}."""
    Image.fromarray(smooth(size=(400, 300))).save(folder / "good.jpg", quality=95)
    Image.fromarray(smooth(size=(400, 300))).save(folder / "good.png")
    data, png = (folder / "good.jpg").read_bytes(), (folder / "good.png").read_bytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    (folder / "cut.jpg").write_bytes(data[:len(data) // 2])
    (folder / "header.jpg").write_bytes(data[:650])
    (folder / "cut.png").write_bytes(png[:len(png) // 2])
    (folder / "text.jpg").write_text("<html>404 not found</html>")
    (folder / "zeros.jpg").write_bytes(bytes(5000))
    (folder / "array.jpg").write_bytes(b"\x93NUMPY\x01\x00" + bytes(200))
    (folder / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    return {"missing.jpg": "nothing", "empty.jpg": "empty", "folder.jpg": "a folder", "cut.jpg": "cut short", "header.jpg": "copy it again", "cut.png": "cut short",
            "text.jpg": "another kind", "zeros.jpg": "another kind", "array.jpg": "another kind", "drawing.jpg": "another kind"}


def test_case_29_missing_unreadable_empty_or_folder(tmp_path):
    for name, word in bad_pictures(tmp_path).items():
        one_sentence(lambda: load_image(tmp_path / name), name, word)
        one_sentence(lambda: open_rgb(tmp_path / name, shrink=4), name)
        if "cut" not in name and "header" not in name: one_sentence(lambda: image_info(tmp_path / name), name)
    assert load_image(tmp_path / "good.jpg").shape == (300, 400, 3)


def test_case_29_the_loader_raises_or_skips_with_a_record(tmp_path):
    bad = bad_pictures(tmp_path)
    names = ["good.jpg", *bad, "good.png"]
    made = store(tmp_path, names)
    strict = ImageDataset(made, tmp_path, res=32)
    assert strict[0]["image"].shape == (3, 32, 32)
    for row, name in enumerate(names[1:-1], 1): one_sentence(lambda: strict[row], name)
    batch = collate_images([ImageDataset(made, tmp_path, res=32, missing="skip")[i] for i in range(len(names))])
    assert batch["row"].tolist() == [0, len(names) - 1] and batch["image"].shape == (2, 3, 32, 32)
    assert [(r["row"], r["image"], r["set"]) for r in batch["skipped"]] == [(i, n, "set") for i, n in enumerate(bad, 1)]
    assert all(r["image"] in r["reason"] for r in batch["skipped"])


def test_case_29_a_size_that_cannot_be_true(tmp_path):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for side in (3000, 9000, 20000, 2**31 - 1):
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (tmp_path / "claims.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b""))
        one_sentence(lambda: load_image(tmp_path / "claims.png"), "claims.png")
    Image.new("1", (20000, 8000)).save(tmp_path / "bomb.png")  # valid, small, huge when decoded
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    one_sentence(lambda: load_image(tmp_path / "bomb.png"), "bomb.png", "max_pixels=")


def test_case_30_grey_rgba_16_bit_and_cmyk(tmp_path):
    rgb = smooth()
    grey = rgb[..., 0]
    alpha = np.random.default_rng(1).integers(0, 256, grey.shape).astype(np.uint8)
    same = {"grey.png": Image.fromarray(grey), "rgba.png": Image.fromarray(np.dstack([rgb, alpha])), "grey_alpha.png": Image.fromarray(np.dstack([grey, alpha]), "LA"),
            "deep.png": Image.fromarray(grey.astype(np.uint16) * 257), "deep.tif": Image.fromarray(grey.astype(np.uint16) * 257),
            "wide.tif": Image.fromarray(grey.astype(np.int32) * 257), "inks.tif": Image.fromarray(rgb).convert("CMYK"),
            "bits.png": Image.fromarray(grey).point(lambda v: 255 * (v > 127)).convert("1"), "palette.png": Image.fromarray(grey).convert("P")}
    for name, picture in same.items():
        picture.save(tmp_path / name)
        want = rgb if name in ("rgba.png", "inks.tif") else np.repeat((grey if name != "bits.png" else 255 * (grey > 127))[..., None], 3, 2)
        got = load_image(tmp_path / name)
        assert got.dtype == np.uint8 and np.array_equal(got, want), name
    for mode in ("L", "CMYK"):  # as JPEG: small coding errors
        Image.fromarray(rgb).convert(mode).save(tmp_path / "coded.jpg", quality=98)
        want = np.repeat(np.asarray(Image.fromarray(rgb).convert("L"))[..., None], 3, 2) if mode == "L" else rgb
        assert np.abs(load_image(tmp_path / "coded.jpg").astype(int) - want).mean() < 3


def test_case_30_float_pixels_are_refused(tmp_path):
    Image.fromarray(smooth()[..., 0].astype(np.float32) / 255).save(tmp_path / "float.tif")
    one_sentence(lambda: load_image(tmp_path / "float.tif"), "float.tif", "8 or 16 bits")
    Image.fromarray(np.full((4, 4), -5, np.int32)).save(tmp_path / "negative.tif")
    one_sentence(lambda: load_image(tmp_path / "negative.tif"), "negative.tif", "65535")


@pytest.mark.parametrize("turn", range(1, 9))
def test_case_30_exif_rotation(tmp_path, turn):
    upright = smooth(size=(48, 32))
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2), 6: np.rot90(upright),
              7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: np.rot90(upright, -1)}[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "turned.jpg", exif=exif, quality=98, subsampling=0)
    assert np.array_equal(load_image(tmp_path / "turned.png"), upright)
    assert np.array_equal(load_image(tmp_path / "turned.png", upright=False), stored)
    assert np.abs(load_image(tmp_path / "turned.jpg").astype(int) - upright).mean() < 3
    assert image_info(tmp_path / "turned.png").size == (48, 32)
    whole, half = Augment().crop(open_rgb(tmp_path / "turned.jpg")[0], (24, 16), 0.12, 12), open_rgb(tmp_path / "turned.jpg", 2)
    assert np.abs(Augment().crop(half[0], (24, 16), 0.12, 12, shrunk=half[1]).astype(int) - whole).mean() < 6  # the reduced picture is turned too


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_case_30_an_impossible_exif_rotation_counts_as_upright(tmp_path, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(smooth()).save(tmp_path / "odd.png", exif=exif)
    assert np.array_equal(load_image(tmp_path / "odd.png"), smooth())


def test_fuzz_found_mask_whose_last_chunk_claims_two_gigabytes(tmp_path):
    """The claimed length was asked of the file at once."""
    import tracemalloc

    from humanbody.data.masks import read_mask
    path = tmp_path / "mask.png"
    Image.fromarray(np.eye(24, dtype=np.uint8) * 255).save(path)
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + struct.pack(">I", 2**31 - 1) + data[at + 4 :])
    tracemalloc.start()
    try: read_mask(path)
    except ValueError as e: assert "mask.png: expected" in str(e)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 64 * 2**20, held
