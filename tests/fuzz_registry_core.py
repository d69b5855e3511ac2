"""Readers of the workbook's own formats for the fuzz run: name -> (writer of a small valid file, reader[, the part that is damaged])."""
import functools
import io
import json
import zipfile

import numpy as np
from small_files import BVH, TRC, five_joints, write_c3d, write_json, write_npz, write_pickle, write_sequence, write_weights
from training_tools import make_store

from humanbody.config import TrainConfig, config_to_dict, load_config
from humanbody.data.bvh import read_bvh
from humanbody.data.c3d_bytes import load_c3d
from humanbody.data.cdf import read_cdf
from humanbody.data.files import load_json, load_npz, load_pickle
from humanbody.data.h36m_native import write_pose_cdf
from humanbody.data.marker_maps import read_mocap
from humanbody.data.mocap import check_c3d_header, read_trc
from humanbody.data.store import MotionStore
from humanbody.models.checkpoints import load_weights
from humanbody.sequence import load_sequence
from humanbody.skeleton import get_skeleton, load_skeleton


def store_file(path):
    """Write a store and return its index (the reader opens the folder around it)."""
    make_store(path, frames=(12, 10, 11))
    return path / "index.json"


def config_file(path):
    """Write a configuration as JSON, which is YAML."""
    config = TrainConfig(data="store", model_args=dict(depth=2), losses={"mpjpe": 1.0})
    path.write_text(json.dumps(config_to_dict(config)).replace(", ", ",\n"))
    return path


def text_file(text, path):
    path.write_text(text)
    return path


def store_array(path):
    """Write a store and return the file of one array."""
    return store_file(path).parent / "joints__h36m_17.npy"


def c3d_file(path):
    return write_c3d(path, np.random.default_rng(0).uniform(100, 900, size=(5, 3, 3)), ["A", "B", "C"])


def npz_member(name):
    """Return functions that take a member out of an npz and put another in its place."""
    def get(data):
        with zipfile.ZipFile(io.BytesIO(data)) as z: return z.read(name)

    def put(data, part):
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as z:
            for i in old.infolist(): z.writestr(i.filename, part if i.filename == name else old.read(i))
        return out.getvalue()

    return get, put


def npz_text(name):
    """The same for a member that holds bytes of text."""
    get, put = npz_member(name)

    def put_text(data, part):
        out = io.BytesIO()
        np.save(out, np.frombuffer(part, np.uint8))
        return put(data, out.getvalue())

    return lambda data: bytes(np.load(io.BytesIO(get(data)))), put_text


def weights_card():
    """The same for the record of this workbook in a safetensors header."""
    head = lambda data: (int.from_bytes(data[:8], "little"), json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))

    def put(data, part):
        n, h = head(data)
        h["__metadata__"]["humanbody"] = part.decode("utf-8", "replace")
        text = json.dumps(h).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + data[8 + n :]

    return lambda data: head(data)[1]["__metadata__"]["humanbody"].encode(), put


def named(suffix, write):
    """Return the writer with a fixed suffix."""
    return lambda path: write(path.with_suffix(suffix))


def cdf_file(path):
    """Write poses of one frame as CDF."""
    return write_pose_cdf(path.with_suffix(".cdf"), np.random.default_rng(0).normal(0, 0.4, (1, get_skeleton("h36m_32").num_joints, 3)))


HEAD = (lambda data: data[:128], lambda data, part: part + data[128:])  # of an npy file
C3D_HEAD = (lambda data: data[:1024], lambda data, part: part + data[1024:])
READERS = {
    "load_pickle, nest": (write_pickle, load_pickle),
    "load_npz, kinds": (write_npz, load_npz),
    "load_npz, array": (write_npz, load_npz, npz_member("a.npy")),
    "load_json, short": (write_json, load_json),
    "load_skeleton": (lambda path: five_joints(path.parent), load_skeleton),
    "load_sequence": (named(".npz", write_sequence), load_sequence),
    "load_sequence, meta": (named(".npz", write_sequence), load_sequence, npz_text("meta.npy")),
    "load_sequence, frames": (named(".npz", write_sequence), load_sequence, npz_member("frames.npy")),
    "read_bvh": (functools.partial(text_file, BVH), functools.partial(read_bvh, units="cm")),
    "read_trc": (functools.partial(text_file, TRC), functools.partial(read_trc, up="y")),
    "read_mocap, trc": (named(".trc", functools.partial(text_file, TRC)), functools.partial(read_mocap, up="y")),
    "check_c3d_header": (named(".c3d", c3d_file), check_c3d_header, C3D_HEAD),
    "load_c3d": (named(".c3d", c3d_file), load_c3d),
    "load_c3d, head": (named(".c3d", c3d_file), load_c3d, C3D_HEAD),
    "read_cdf": (cdf_file, read_cdf),
    "load_weights": (named(".safetensors", write_weights), load_weights),
    "load_weights, card": (named(".safetensors", write_weights), load_weights, weights_card()),
    "load_config": (named(".yaml", config_file), load_config),
    "MotionStore": (store_file, lambda path: MotionStore(path.parent)),
    "MotionStore, array": (store_array, lambda path: MotionStore(path.parent).array("joints/h36m_17"), HEAD),
}
