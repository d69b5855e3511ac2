"""Damage for the fuzz run: parts of a file that can be damaged alone, steps that damage bytes, and steps that change the values inside a valid file."""
import binascii
import functools
import io
import json
import pickle
import re
import struct
import zipfile
import zlib

import numpy as np

TOKENS = [b"NaN", b"-1", b"0", b"1e400", b"99999999999999999999", b"{", b"}", b"[", b"]", b"\"", b"null", b"\n", b"\t", b"\x00", b"\xff\xfe",
          b"../x", b"MOTION", b"HIERARCHY", b"JOINT", b"End Site", b": ", b"- ", b"&a ", b"*a ", b"!!python/object:os.system ", b"(", b".", b"t", b"R",
          b"cos\nsystem\n", b"\x80\x02", b"PK\x03\x04", b"\x7f\xff\xff\xff", b"descr", b"|O", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b",", b"-", b"inf"]
VALUES = [None, -1, 0, 3, 10**30, 1.5, 1e308, True, "", "x", "../x", "NaN", [], {}, [1], [[]], {"a": 1}, ["x", None], [1e9, -1e9, 2], 2**62]
NUMBER = re.compile(rb"-?\d[\d.]*")
KINDS = ["set", "insert", "remove", "repeat", "cut", "number", "number", "json", "json", "value", "value", "value"]
STAMP = (1980, 1, 1, 0, 0, 0)  # the time of every archive member, so that the same number gives the same bytes
PNG, HDF5, MAT = b"\x89PNG\r\n\x1a\n", b"\x89HDF\r\n\x1a\n", b"MATLAB 5.0"


def nodes(value, path=()):
    """List the places of all values in a nest."""
    if isinstance(value, dict): items = value.items()
    elif isinstance(value, (list, tuple)): items = enumerate(value)
    elif isinstance(value, np.ndarray) and value.dtype == object: items = ((k, value[k]) for k in np.ndindex(value.shape))
    else: items = ()
    return [path, *(n for k, v in items for n in nodes(v, (*path, k)))]


def changed_json(data, at, choice):
    """Replace, remove or rename one value of JSON text (other bytes are returned as they are)."""
    if data[:1] not in b"[{": return data
    try: value = json.loads(data)
    except (ValueError, RecursionError): return data
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


def _one(x, number):
    """Return a copy with one element replaced."""
    x = np.array(x, x.dtype if x.dtype.kind == "O" else float)
    x.reshape(-1)[x.size // 2] = number
    return x


ARRAYS = [lambda x: x.T, lambda x: x.ravel(), lambda x: x[:0], lambda x: x[:1], lambda x: x[:-1], lambda x: x[1:], lambda x: x[None], lambda x: x[..., None],
          lambda x: x[..., :-1], lambda x: x[..., 0], lambda x: np.concatenate([x, x]), lambda x: np.repeat(x, 2, -1), lambda x: x.ravel()[0], lambda x: x * np.nan,
          lambda x: x * 1000, lambda x: -x, lambda x: x * 0, lambda x: _one(x, np.nan), lambda x: _one(x, np.inf), lambda x: _one(x, 1e300), lambda x: _one(x, -1),
          *(lambda x, t=t: x.astype(t) for t in ("f2", ">f8", "i8", "u1", "?", "c16", "U", "S", "O", ">i2", "longdouble")),
          lambda x: x.astype("O").tolist(), lambda x: np.array({"a": x}, dtype=object), lambda x: np.zeros(x.shape, [("a", "f4"), ("b", "i2")]),
          lambda x: np.zeros(x.shape, "M8[s]"), lambda x: np.zeros(x.shape, "V3"), lambda x: np.broadcast_to(x, (2, 1, *x.shape)).copy()]
SCALARS = [lambda v, x=x: x for x in VALUES] + [lambda v: -v, lambda v: v * 2, lambda v: str(v), lambda v: [v], lambda v: float(v), lambda v: int(v), lambda v: v + 1,
           lambda v: np.array(v), lambda v: np.array([v, v]), lambda v: b"\xff", lambda v: "é" * 300, lambda v: "a\x00b", lambda v: float("nan"), lambda v: -1e300]


def _container(value, key, choice):
    """Return a list or dict with one entry removed, doubled or renamed."""
    if isinstance(value, dict):
        value = dict(value)
        if choice % 3 == 0: del value[key]
        elif choice % 3 == 1: value["odd"] = value.pop(key)
        else: value[7 if choice % 2 else None] = value[key]
        return value
    k = key if isinstance(value, (list, tuple)) else 0
    value = list(value)
    return [*value[:k], *value[k + 1 :]] if choice % 2 else [*value[:k], value[k], *value[k:]]


def changed(value, path, choice):
    """Return a nest with one of its values changed; the nest itself is left as it is."""
    if path and not (len(path) == 1 and choice % 4 == 0):
        inner = changed(value[path[0]], path[1:], choice)
        if isinstance(value, np.ndarray):
            value = value.copy()
            value[path[0]] = inner
            return value
        out = dict(value) if isinstance(value, dict) else list(value)
        out[path[0]] = inner
        return out if not isinstance(value, tuple) else tuple(out)
    if path: return _container(value, path[0], choice // 4)
    how = ARRAYS if isinstance(value, np.ndarray) and value.size and choice % 5 else SCALARS
    return how[choice // 7 % len(how)](value)


def _dump_npy(value):
    out = io.BytesIO()
    np.save(out, np.asanyarray(value), allow_pickle=True)
    return out.getvalue()


def _dump_npz(value):
    return packed({f"{k}.npy": _dump_npy(v) for k, v in value.items()})


def packed(members):
    """Return a stored archive of members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items(): z.writestr(zipfile.ZipInfo(name, STAMP), data)
    return out.getvalue()


def members(data):
    """Return the members of an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as z: return {i.filename: z.read(i) for i in z.infolist()}


def _load_hdf5(data):
    """Return the datasets of an HDF5 file by their path."""
    import h5py
    out = {}
    with h5py.File(io.BytesIO(data)) as f: f.visititems(lambda name, x: out.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None)
    return out


def _dump_hdf5(data, value):
    """Return the file with the datasets that differ written anew."""
    import h5py
    out, old = io.BytesIO(data), _load_hdf5(data)
    with h5py.File(out, "r+") as f:
        for name in old.keys() - value.keys(): del f[name]
        for name, x in value.items():
            if x is old.get(name, f) or not isinstance(name, str) or (name in old and isinstance(x, np.ndarray) and x.dtype == old[name].dtype and np.array_equal(x, old[name])): continue
            if name in f: del f[name]
            f[name] = np.array(x.tolist(), dtype=h5py.string_dtype()) if isinstance(x, np.ndarray) and x.dtype.kind == "U" else x
    return out.getvalue()


def _load_mat(data):
    import scipy.io
    return {k: v for k, v in scipy.io.loadmat(io.BytesIO(data), simplify_cells=True).items() if not k.startswith("__")}


def _dump_mat(value):
    import scipy.io
    out = io.BytesIO()
    scipy.io.savemat(out, {k: v for k, v in value.items() if v is not None})
    return out.getvalue()


def codec(data):
    """Return the value in a valid file and the function that writes such a file of another value, or None (only for files made here)."""
    if data[:6] == b"\x93NUMPY": return np.load(io.BytesIO(data), allow_pickle=True), _dump_npy
    if data[:4] == b"PK\x03\x04" and all(n.endswith(".npy") for n in members(data)):
        return {n[:-4]: np.load(io.BytesIO(d), allow_pickle=True) for n, d in members(data).items()}, _dump_npz
    if data[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") and data.endswith(b"."):
        return pickle.loads(data, encoding="latin1"), lambda value: pickle.dumps(value, data[1])
    if data.startswith(HDF5): return _load_hdf5(data), functools.partial(_dump_hdf5, data)
    if data.startswith(MAT): return _load_mat(data), _dump_mat
    if data[:1] in (b"{", b"["): return json.loads(data), lambda value: json.dumps(value, default=lambda x: x.tolist()).encode()
    return None


@functools.lru_cache(maxsize=64)
def known(data):
    """Return codec(data) and the places in it; None where it cannot be read that way."""
    try: found = codec(data)
    except Exception: return None  # a layout that numpy, h5py or scipy writes differently; the bytes are damaged all the same
    return found and (*found, nodes(found[0]))


VALID = set()  # files that were written here and nowhere else; only these are decoded (a pickle among them runs what it names)


def changed_value(data, at, choice):
    """Change one value inside a valid file and write the file again; damaged bytes are returned as they are."""
    if data not in VALID or (found := known(data)) is None: return data
    value, dump, places = found
    try: return dump(changed(value, places[at % len(places)], choice + at // len(places)))
    except Exception: return data  # a value that such a file cannot hold


def apply(data, steps):
    """Damage bytes: set, insert, remove, repeat, cut, or replace a number, a value of JSON, or a value of a valid binary file."""
    for kind, at, length, token in steps:
        place = at % max(len(data), 1)
        end = min(place + length, len(data))
        data = {"set": lambda: data[:place] + token + data[place + len(token) :], "insert": lambda: data[:place] + token + data[place:],
                "remove": lambda: data[:place] + data[end:], "repeat": lambda: data[:end] + data[place:], "cut": lambda: data[:place],
                "number": lambda: number_replaced(data, place, token), "json": lambda: changed_json(data, at, length),
                "value": lambda: changed_value(data, at, length)}[kind]()
    return data


def random_steps(rng):
    """Draw one to three steps."""
    return [(rng.choice(KINDS), rng.randrange(10**6), rng.randint(1, 300), rng.choice(TOKENS) if rng.random() < 0.6 else rng.randbytes(rng.randint(1, 6)))
            for _ in range(rng.choice((1, 1, 2, 3)))]


def _png_parts(data):
    """Return the chunks of a PNG as parts; length and checksum are made to fit."""
    at, out = 8, []
    while at + 12 <= len(data):
        n = struct.unpack(">I", data[at : at + 4])[0]
        def put(part, at=at, n=n):
            body = data[at + 4 : at + 8] + part
            return data[:at] + struct.pack(">I", len(part)) + body + struct.pack(">I", binascii.crc32(body)) + data[at + 12 + n :]
        if n: out.append((data[at + 8 : at + 8 + n], put))
        if data[at + 4 : at + 8] == b"IDAT": out.append((zlib.decompress(data[at + 8 : at + 8 + n]), lambda part, put=put: put(zlib.compress(part))))
        at += 12 + n
    return out


def _mat_parts(data):
    """Return the deflated elements of a MATLAB file, inflated."""
    at, out = 128, []
    while at + 8 <= len(data):
        kind, n = struct.unpack_from("<II", data, at)
        if kind == 15:
            def put(part, at=at, n=n):
                body = zlib.compress(part)
                return data[:at] + struct.pack("<II", 15, len(body)) + body + data[at + 8 + n :]
            out.append((zlib.decompress(data[at + 8 : at + 8 + n]), put))
        at += 8 + n
    return out


def parts_of(data):
    """Return what can be damaged alone: (bytes, function that puts the damaged bytes back into the whole file)."""
    out = [(data, lambda part: part)]
    if data[:4] == b"PK\x03\x04":
        inside = members(data)
        for name, member in inside.items():
            out.append((member, lambda part, name=name: packed({**inside, name: part})))
            if member[:6] == b"\x93NUMPY": out.append((member[:128], lambda part, name=name, rest=member[128:]: packed({**inside, name: part + rest})))
    elif data.startswith(PNG): out += _png_parts(data)
    elif data.startswith(MAT): out += _mat_parts(data)
    elif len(data) > 4096: out.append((data[:512], lambda part: part + data[512:]))
    return out
