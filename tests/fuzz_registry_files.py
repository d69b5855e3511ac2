"""Readers of plain containers for the fuzz run: name -> (writer of a small valid file, reader)."""
import pickle

import numpy as np

from humanbody.data.files import load_json, load_npy, load_npz, load_pickle, load_torch, save_json, save_npz
from humanbody.data.matfiles import list_hdf5, load_hdf5, load_mat, save_hdf5, save_mat
from humanbody.data.paths import resolve_image, safe_join, walk_files

NEST = dict(a=[1, 2.5, None, True], b=dict(c="é", d=[[1, 2], [3, 4]]), e=[])


def _pickle(protocol):
    """Return a writer of a pickle of containers, numbers and arrays."""
    def write(path):
        value = dict(x=np.arange(6.0).reshape(2, 3), names=["a", "b"], n=np.float32(3), flag=True, none=None, o=np.array([1, None], dtype=object), t=(1, b"x"), s={1, 2})
        path.write_bytes(pickle.dumps(value, protocol))
        return path
    return write


def _python2(path):
    """Write an array in the layout of Python 2 and numpy 1."""
    raw = np.array([1.5, -2.25]).tobytes()
    path.write_bytes(b"\x80\x02}U\x04caf\xe9cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
                     b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10" + raw + b"tbs.")
    return path


def _npy(path):
    with path.open("wb") as f: np.save(f, np.arange(6, dtype="f4").reshape(2, 3))
    return path


def _npy_objects(path):
    with path.open("wb") as f: np.save(f, np.array({"a": np.arange(3), "b": "text"}, dtype=object), allow_pickle=True)
    return path


def _npz(path): return save_npz(path, a=np.arange(6.0).reshape(2, 3), b=np.array("text"), c=np.zeros((0, 3), np.int16))


def _npz_stored(path):
    with path.open("wb") as f: np.savez(f, a=np.arange(3), o=np.array({"k": [1]}, dtype=object))
    return path


def _json(path): return save_json(path, NEST)


def _torch(path):
    import torch
    torch.save({"w": torch.arange(3.0), "n": np.float64(2), "m": np.arange(3)}, path)
    return path


def _torch_old(path):
    import torch
    torch.save({"w": torch.arange(3.0), "n": 2}, path, _use_new_zipfile_serialization=False)
    return path


def _mat(compress):
    """Return a writer of a MATLAB 5 file with every kind of value."""
    def write(path):
        import scipy.sparse
        cell = np.empty((2, 1), dtype=object)
        cell[:, 0] = [np.arange(3.0), "text"]
        return save_mat(path, dict(x=np.arange(6.0).reshape(2, 3) / 7, c=cell, s=dict(a=1.0, b="é", c=dict(d=np.int16([1, 2]))), z=np.array([1 + 2j]), y=np.array([True, False]),
                                   m=scipy.sparse.csc_matrix(np.eye(3)), t=np.array(["ab", "cd"])), compress)
    return write


def _hdf5(path): return save_hdf5(path, dict(x=np.arange(6.0).reshape(2, 3), n=np.array([b"a.jpg", b"b.jpg"]), t=np.array(["é", "b"]), g=dict(y=np.arange(3)), cells=[np.zeros(2), np.ones(2)]))


def _names(path):
    path.write_text("images/S9_Walking_1.54138969_000001.jpg\n./a\\b c.png\nTS1/é.jpg\n")
    return path


def _read_names(path):
    """Resolve every line of a file as an image name."""
    for line in path.read_bytes().strip().split(b"\n"):
        safe_join(path.parent, line), resolve_image(path.parent, line)
    return list(walk_files(path.parent))


READERS = {
    "load_pickle 0": (_pickle(0), load_pickle), "load_pickle 2": (_pickle(2), load_pickle), "load_pickle 4": (_pickle(4), load_pickle), "load_pickle 5": (_pickle(5), load_pickle),
    "load_pickle python 2": (_python2, load_pickle), "load_npy": (_npy, load_npy), "load_npy mmap": (_npy, lambda p: load_npy(p, mmap=True)), "load_npy objects": (_npy_objects, load_npy),
    "load_npz": (_npz, load_npz), "load_npz stored": (_npz_stored, load_npz), "load_json": (_json, load_json), "load_json nan": (_json, lambda p: load_json(p, allow_nan=True)),
    "load_torch": (_torch, load_torch), "load_torch old": (_torch_old, load_torch), "load_mat": (_mat(False), load_mat), "load_mat deflated": (_mat(True), load_mat),
    "load_hdf5": (_hdf5, load_hdf5), "list_hdf5": (_hdf5, list_hdf5), "image names": (_names, _read_names),
}
