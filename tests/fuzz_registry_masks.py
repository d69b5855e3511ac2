"""Small valid files and readers of the mask formats, for the fuzz runs."""
import numpy as np
from PIL import Image

from humanbody.data.mask_points import read_bank, write_bank
from humanbody.data.masks import load_mask, make_mask, read_mask, read_reference_mask, read_reference_points, save_mask, write_reference_points


def _disc(n=24):
    y, x = np.mgrid[:n, :n]
    return (x - 11) ** 2 + (y - 9) ** 2 < 40


def _png(path):
    path = path.with_suffix(".png")
    Image.fromarray(_disc() * np.uint8(255)).save(path)
    return path


def _parts(path):
    path = path.with_suffix(".png")
    Image.fromarray(_disc() * np.uint8(3)).save(path)
    return path


def _npy(path):
    path = path.with_suffix(".npy")
    np.save(path, _disc())
    return path


def _kept(path):
    made = save_mask(path.parent, make_mask(_disc(), "im00001.png", box=(1.0, 2.0, 3.0)))
    return made.rename(path.with_suffix(".npz"))


def _any(path):
    path = path.with_suffix(".npz")
    np.savez(path, mask=_disc(), other=_disc())
    return path


READERS = {
    "mask_png": (_png, read_mask),
    "mask_up_parts": (_parts, lambda p: read_mask(p, kind="up_parts")),
    "mask_npy": (_npy, read_mask),
    "mask_kept_npz": (_kept, load_mask),
    "mask_any_npz": (_any, lambda p: read_mask(p, key="mask")),
    "mask_reference_points": (lambda p: write_reference_points(p.with_suffix(".npy"), "im00001", np.argwhere(_disc())), read_reference_points),
    "mask_reference": (lambda p: write_reference_points(p.with_suffix(".npy"), "im00001", np.argwhere(_disc())), read_reference_mask),
    "mask_bank": (lambda p: write_bank(p.with_suffix(".npy"), np.zeros((1, 441, 2))), read_bank),
}
