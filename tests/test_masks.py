"""Masks: nothing heavy at import, hostile pictures, points that depend on the image only."""
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from humanbody.data.mask_points import select_points
from humanbody.data.masks import load_sam, make_mask, read_mask


def disc(n=64):
    """A mask (n,n)."""
    y, x = np.mgrid[:n, :n]
    return (x - n / 2) ** 2 + (y - n / 3) ** 2 < (n / 4) ** 2


def test_import_is_light():
    """The module does not pull in transformers."""
    code = "import sys, humanbody.data.masks, humanbody.data.mask_points; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_missing_transformers_names_the_extra(tmp_path, monkeypatch):
    """Without the optional package the message says what to install."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'humanbody\[sam\]'"):
        load_sam(tmp_path)


def test_png_that_claims_a_huge_picture(tmp_path):
    """The size in the header is refused before anything is allocated."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path = tmp_path / "bomb.png"
    head = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9001)) + chunk(b"IEND", b""))
    tracemalloc.start()
    with pytest.raises(ValueError, match="at most"):
        read_mask(path)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


@pytest.mark.parametrize("write, text", [
    (lambda p: np.save(p, np.zeros((2, 3, 4))), "expected a mask"),
    (lambda p: np.save(p, np.full((4, 4), np.nan)), "finite"),
    (lambda p: np.save(p, np.array(["a", "b"])), "numbers"),
    (lambda p: p.write_bytes(b"\x93NUMPY"), "npy"),
])
def test_broken_arrays(tmp_path, write, text):
    """One sentence for each."""
    path = tmp_path / "m.npy"
    write(path)
    with pytest.raises(ValueError, match=text):
        read_mask(path)


@pytest.mark.parametrize("method", ["stratified", "farthest", "random"])
def test_points_depend_on_the_image_alone(method):
    """Whatever was drawn before, an image has its own points."""
    names = [f"im{i:05d}.png" for i in range(4)]
    first = {n: select_points(make_mask(disc(), n), method=method)[0] for n in names}
    np.random.seed(5)
    for n in reversed(names):
        np.testing.assert_array_equal(select_points(make_mask(disc(), n), method=method)[0], first[n])
