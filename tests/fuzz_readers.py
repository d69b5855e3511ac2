"""`make fuzz`: damaged copies of valid files; a reader gives a value, or ValueError or FileNotFoundError in one message, and never anything else.

HUMANBODY_FUZZ sets the number of inputs per reader (default 2000), HUMANBODY_FUZZ_SEED the seed (default 0); the last line of the run
says both. Not collected by `pytest tests`. One reader: `python -m pytest tests/fuzz_readers.py -k read_bvh`.
"""
import functools
import io
import json
import os
import re
import resource
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from small_files import BVH, TRC, five_joints, write_c3d, write_json, write_npz, write_pickle, write_sequence, write_weights
from training_tools import make_store

from humanbody.config import TrainConfig, config_to_dict, load_config
from humanbody.data.bvh import read_bvh
from humanbody.data.files import load_json, load_npz, load_pickle
from humanbody.data.mocap import check_c3d_header, read_trc
from humanbody.data.store import MotionStore
from humanbody.models.checkpoints import load_weights
from humanbody.sequence import load_sequence
from humanbody.skeleton import load_skeleton

COUNT = int(os.environ.get("HUMANBODY_FUZZ", "2000"))
SEED = int(os.environ.get("HUMANBODY_FUZZ_SEED", "0"))
ALLOWED = (ValueError, FileNotFoundError)  # UnsafeFileError is a ValueError
TOKENS = [b"NaN", b"-1", b"0", b"1e400", b"99999999999999999999", b"{", b"}", b"[", b"]", b"\"", b"null", b"\n", b"\t", b"\x00", b"\xff\xfe",
          b"../x", b"MOTION", b"HIERARCHY", b"JOINT", b"End Site", b": ", b"- ", b"&a ", b"*a ", b"!!python/object:os.system ", b"(", b".", b"t", b"R",
          b"cos\nsystem\n", b"\x80\x02", b"PK\x03\x04", b"\x7f\xff\xff\xff", b"descr", b"|O"]


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


WHOLE = (lambda data: data, lambda data, part: part)
HEAD = (lambda data: data[:128], lambda data, part: part + data[128:])  # of an npy file
READERS = {  # name -> (file name, writer of a valid file, reader, the part that is damaged)
    "load_pickle": ("a.pkl", write_pickle, load_pickle, WHOLE),
    "load_npz": ("a.npz", write_npz, load_npz, WHOLE),
    "load_npz, array": ("a.npz", write_npz, load_npz, npz_member("a.npy")),
    "load_json": ("a.json", write_json, load_json, WHOLE),
    "load_skeleton": ("five_points.json", lambda path: five_joints(path.parent), load_skeleton, WHOLE),
    "load_sequence": ("s.npz", write_sequence, load_sequence, WHOLE),
    "load_sequence, meta": ("s.npz", write_sequence, load_sequence, npz_text("meta.npy")),
    "load_sequence, frames": ("s.npz", write_sequence, load_sequence, npz_member("frames.npy")),
    "read_bvh": ("a.bvh", functools.partial(text_file, BVH), functools.partial(read_bvh, units="cm"), WHOLE),
    "read_trc": ("a.trc", functools.partial(text_file, TRC), functools.partial(read_trc, up="y"), WHOLE),
    "check_c3d_header": ("a.c3d", c3d_file, check_c3d_header, (lambda data: data[:1024], lambda data, part: part + data[1024:])),
    "load_weights": ("w.safetensors", write_weights, load_weights, WHOLE),
    "load_weights, card": ("w.safetensors", write_weights, load_weights, weights_card()),
    "load_config": ("c.yaml", config_file, load_config, WHOLE),
    "MotionStore": ("store", store_file, lambda path: MotionStore(path.parent), WHOLE),
    "MotionStore, array": ("store", store_array, lambda path: MotionStore(path.parent).array("joints/h36m_17"), HEAD),
}


def nodes(value, path=()):
    """List the places of all values in a nest."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(n for k, v in items for n in nodes(v, (*path, k)))]


def changed_json(data, at, choice):
    """Replace, remove or rename one value of JSON text (other bytes are returned as they are)."""
    try: value = json.loads(data)
    except ValueError: return data
    path = nodes(value)[at % len(nodes(value))]
    if not path: return json.dumps(VALUES[choice % len(VALUES)]).encode()
    owner = functools.reduce(lambda v, k: v[k], path[:-1], value)
    if choice % 5 == 0: del owner[path[-1]]
    elif choice % 5 == 1 and isinstance(owner, dict): owner["odd"] = owner.pop(path[-1])
    else: owner[path[-1]] = VALUES[choice // 5 % len(VALUES)]
    return json.dumps(value).encode()


def number_replaced(data, at, token):
    """Put a token in the place of the next number after a position."""
    found = NUMBER.search(data, at) or NUMBER.search(data)
    return data if found is None else data[: found.start()] + token + data[found.end() :]


def apply(data, steps):
    """Damage bytes: set, insert, remove, repeat, cut, or replace a number or a value of JSON."""
    for kind, at, length, token in steps:
        place = at % max(len(data), 1)
        end = min(place + length, len(data))
        data = {"set": lambda: data[:place] + token + data[place + len(token) :], "insert": lambda: data[:place] + token + data[place:],
                "remove": lambda: data[:place] + data[end:], "repeat": lambda: data[:end] + data[place:], "cut": lambda: data[:place],
                "number": lambda: number_replaced(data, place, token), "json": lambda: changed_json(data, at, length)}[kind]()
    return data


VALUES = [None, -1, 0, 3, 10**30, 1.5, 1e308, True, "", "x", "../x", "NaN", [], {}, [1], [[]], {"a": 1}, ["x", None], [1e9, -1e9, 2], 2**62]
NUMBER = re.compile(rb"-?\d[\d.]*")
KINDS = ["set", "insert", "remove", "repeat", "cut", "number", "number", "json", "json", "json"]
STEP = st.tuples(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(1, 300),
                 st.one_of(st.binary(min_size=1, max_size=6), st.sampled_from(TOKENS)))
COUNTS = {}


@pytest.fixture(scope="module", autouse=True)
def bounded():
    """Keep an allocation that a damaged header asks for from taking the machine down, and report at the end."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, old)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name, tmp_path, capsys):
    file, write, read, (get, put) = READERS[name]
    path = write(tmp_path / file)
    good = path.read_bytes()
    part = get(good)
    read(path)  # the undamaged file is read
    counts = COUNTS[name] = dict(inputs=0, refused=0, peak=0)

    @seed(SEED)
    @settings(max_examples=COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink))
    @given(st.lists(STEP, min_size=1, max_size=3))
    def damaged(steps):
        path.write_bytes(put(good, apply(part, steps)))
        counts["inputs"] += 1
        try: read(path)
        except ALLOWED as e:
            counts["refused"] += 1
            assert str(e).strip(), "an empty message"

    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            damaged()
        counts["peak"] = tracemalloc.get_traced_memory()[1] / 2**20
    finally: tracemalloc.stop()
    assert counts["refused"] > 0
    limit = 64 + 100 * len(good) / 2**20
    assert counts["peak"] < limit, f"{counts['peak']:.0f} MiB were held at once for files of {len(good)} bytes"
    with capsys.disabled():
        print(f"\nfuzz: {name}: {counts['inputs']} inputs, {counts['refused']} refused, seed {SEED}, "
              f"at most {counts['peak']:.1f} MiB held", flush=True)


def test_summary(capsys):
    """Say how much was tried."""
    with capsys.disabled():
        print(f"\nfuzz: {sum(c['inputs'] for c in COUNTS.values())} inputs to {len(COUNTS)} readers, seed {SEED}, "
              f"HUMANBODY_FUZZ={COUNT}", flush=True)
