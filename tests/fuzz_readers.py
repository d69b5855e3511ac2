"""`make fuzz`: damaged copies of valid files; a reader gives a value, or ValueError or FileNotFoundError in one message, and never anything else.

HUMANBODY_FUZZ sets the number of inputs per reader (default 2000), HUMANBODY_FUZZ_SEED the seed (default 0); the last line of the run
says both. Not collected by `pytest tests`. One reader: `python -m pytest tests/fuzz_readers.py -k read_bvh`.
"""
import functools
import os
import re
import resource
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from small_files import BVH, TRC, write_c3d, write_json, write_npz, write_pickle, write_sequence, write_weights
from training_tools import make_store

from humanbody.config import load_config, save_config, TrainConfig
from humanbody.data.bvh import read_bvh
from humanbody.data.files import load_json, load_npz, load_pickle
from humanbody.data.mocap import check_c3d_header, read_trc
from humanbody.data.store import MotionStore
from humanbody.models.checkpoints import load_weights
from humanbody.sequence import load_sequence

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
    save_config(TrainConfig(data="store", model_args=dict(depth=2), losses={"mpjpe": 1.0}), path)
    return path


def text_file(text, path):
    path.write_text(text)
    return path


def c3d_file(path):
    return write_c3d(path, np.random.default_rng(0).uniform(100, 900, size=(5, 3, 3)), ["A", "B", "C"])


READERS = {  # name -> (file name, writer of a valid file, reader)
    "load_pickle": ("a.pkl", write_pickle, load_pickle),
    "load_npz": ("a.npz", write_npz, load_npz),
    "load_json": ("a.json", write_json, load_json),
    "load_sequence": ("s.npz", write_sequence, load_sequence),
    "read_bvh": ("a.bvh", functools.partial(text_file, BVH), functools.partial(read_bvh, units="cm")),
    "read_trc": ("a.trc", functools.partial(text_file, TRC), functools.partial(read_trc, up="y")),
    "check_c3d_header": ("a.c3d", c3d_file, check_c3d_header),
    "load_weights": ("w.safetensors", write_weights, load_weights),
    "load_config": ("c.yaml", config_file, load_config),
    "MotionStore": ("store", store_file, lambda path: MotionStore(path.parent)),
}


def digits_replaced(data, at, token):
    """Put a token in the place of the number nearest after a position."""
    found = re.compile(rb"-?\d[\d.]*").search(data, at) or re.compile(rb"-?\d[\d.]*").search(data)
    return data if found is None else data[: found.start()] + token + data[found.end() :]


def apply(data, steps):
    """Damage bytes: flip, insert, remove, repeat or replace a part."""
    for kind, where, length, token in steps:
        at = int(where * max(len(data), 1))
        end = min(at + length, len(data))
        data = {"set": lambda: data[:at] + token + data[at + len(token) :], "insert": lambda: data[:at] + token + data[at:],
                "remove": lambda: data[:at] + data[end:], "repeat": lambda: data[:end] + data[at:], "cut": lambda: data[:at],
                "number": lambda: digits_replaced(data, at, token)}[kind]()
    return data


STEP = st.tuples(st.sampled_from(["set", "set", "insert", "remove", "repeat", "cut", "number"]), st.floats(0, 1), st.integers(1, 64),
                 st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(TOKENS)))
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
    file, write, read = READERS[name]
    path = write(tmp_path / file)
    good = path.read_bytes()
    read(path)  # the undamaged file is read
    counts = COUNTS[name] = dict(inputs=0, refused=0, peak=0)

    @seed(SEED)
    @settings(max_examples=COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(STEP, min_size=1, max_size=4))
    def damaged(steps):
        path.write_bytes(apply(good, steps))
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
              f"HUMANBODY_FUZZ={COUNT}; no other exception than ValueError and FileNotFoundError", flush=True)
