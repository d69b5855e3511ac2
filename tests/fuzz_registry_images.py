"""Small valid files and readers of image annotations and fits, for the fuzz runs."""
import io
import zipfile

import numpy as np

from humanbody.data.fit_files import read_eft, read_fits, write_eft, write_spin_fits
from humanbody.data.fits import Fits, FitsStore
from humanbody.data.human_data import read_human_data, write_human_data
from humanbody.data.imagestore import ImageStore
from humanbody.data.spin_npz import read_spin_npz

J, OP = 24, 25


def spin_arrays(n=2):
    """Return every key of a SPIN npz for invented upright people."""
    rng = np.random.default_rng(0)
    part = np.concatenate([rng.uniform(100, 200, (n, J, 2)), np.ones((n, J, 1))], -1)
    S = np.concatenate([rng.normal(size=(n, J, 3)) * 0.3, np.ones((n, J, 1))], -1)
    pose = rng.normal(size=(n, 3 * J)) * 0.2
    pose[:, 0] += np.pi
    openpose = np.concatenate([rng.uniform(100, 200, (n, OP, 2)), rng.random((n, OP, 1))], -1)
    return dict(imgname=np.array([f"im{k:04d}.jpg" for k in range(n)]), center=np.full((n, 2), 150.0) + np.arange(n)[:, None],
                scale=np.linspace(0.8, 1.5, n), part=part, openpose=openpose, S=S, pose=pose, shape=rng.normal(size=(n, 10)),
                has_smpl=np.arange(n).astype(np.uint8) % 2, gender=np.array(list("mf" * n)[:n]), maskname=np.array([f"m{k}.png" for k in range(n)]),
                partname=np.array([f"p{k}.png" for k in range(n)]))


def fits(n=2):
    """Return fits of the same people."""
    d = spin_arrays(n)
    return Fits(list(d["imgname"]), d["pose"], d["shape"], np.ones(n), "eft", None, d["center"])


def _npz(path, key=None, member=None):
    """Write a SPIN npz; the bytes of one member may be given."""
    path = path.with_suffix(".npz")
    if member is None:
        np.savez(path, **spin_arrays())
        return path
    with zipfile.ZipFile(path, "w") as z:
        for name, x in spin_arrays().items():
            data = io.BytesIO()
            np.save(data, x)
            z.writestr(f"{name}.npy", member if name == key else data.getvalue())
    return path


def _member(key):
    """Return a writer of one member as .npy and a reader of the npz around its (damaged) bytes."""
    def write(path):
        path = path.with_suffix(".npy")
        np.save(path, spin_arrays()[key])
        return path

    return write, lambda p: read_spin_npz(_npz(p.with_name("around"), key, p.read_bytes()))


def _store(path):
    folder = path.with_name(path.stem + "_store")
    read_spin_npz(_npz(path)).to_store(folder, "demo", "train", overwrite=True)
    return folder / "index.json"


def _open_store(index):
    store = ImageStore(index.parent)
    return [store.row(k) for k in range(min(len(store), 3))], [store.values(k) for k in store.labels]


def _fits_store(path):
    folder = path.with_name(path.stem + "_fits")
    FitsStore.create(folder, fits(), overwrite=True)
    return folder / "index.json"


def _human(path):
    store = ImageStore(_store(path).parent)
    return write_human_data(store, path.with_suffix(".npz"))


def _human_member(key):
    """The same as `_member` for a (pickled) member of a HumanData npz."""
    def write(path):
        with zipfile.ZipFile(_human(path)) as z: data = z.read(f"{key}.npy")
        path = path.with_suffix(".npy")
        path.write_bytes(data)
        return path

    def read(path):
        source, around = path.with_suffix(".npz"), path.with_name("around.npz")
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(around, "w") as z:
            for name in old.namelist(): z.writestr(name, path.read_bytes() if name == f"{key}.npy" else old.read(name))
        return read_human_data(around)

    return write, read


READERS = {
    "spin_npz": (_npz, read_spin_npz),
    **{f"spin_npz, {key}": _member(key) for key in ("imgname", "scale", "part", "S", "pose", "shape", "has_smpl", "gender")},
    "imagestore, index": (_store, _open_store),
    "imagestore, array": (lambda p: _store(p).with_name("pose.npy"), lambda p: _open_store(p.with_name("index.json"))),
    "fits store, index": (_fits_store, lambda p: FitsStore(p.parent).get(slice(None))),
    "fits npy": (lambda p: write_spin_fits(fits(), p.with_suffix(".npy")), read_fits),
    "fits npz": (lambda p: write_spin_fits(fits(), p.with_suffix(".npz")), read_fits),
    "eft json": (lambda p: write_eft(fits(1), p.with_suffix(".json")), read_eft),
    "eft npz": (lambda p: _npz(p.with_name("mpii_eft")), read_eft),
    "human_data npz": (_human, read_human_data),
    **{f"human_data, {key}": _human_member(key) for key in ("smpl", "meta", "keypoints2d", "keypoints2d_mask", "bbox_xywh")},
}
