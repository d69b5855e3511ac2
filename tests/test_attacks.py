"""An attack corpus: files made to run code or to take the memory; every one is refused in one sentence, nothing runs, and little memory is taken.

One child process imports all readers, warms them up on valid files, then reads the corpus and reports as JSON; run `python tests/test_attacks.py FOLDER`
to see the report for a folder that `write_corpus` filled.
"""
import ctypes
import gc
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

PROTOCOLS = (0, 2, 4, 5)
FREE = 64 * 2**20
CODE = "open({!r}, 'w').write('x')"


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function, *args): self.function, self.args = function, args

    def __call__(self): raise AssertionError("made only to be pickled")

    def __reduce__(self): return self.function, self.args


class State:
    """An object that would run code when its state is set."""

    def __init__(self, x): self.x = x

    def __setstate__(self, state): os.system(state["x"])


def gadgets(flag):
    """Return name -> object or bytes per protocol; each would create the file `flag` if its code ran."""
    import functools
    import importlib
    import operator
    import types
    touch, code = f"touch {flag}", CODE.format(str(flag))
    return {
        "os.system": Call(os.system, touch), "os.popen": Call(os.popen, touch), "subprocess.Popen": Call(subprocess.Popen, ["touch", str(flag)]),
        "subprocess.check_output": Call(subprocess.check_output, ["touch", str(flag)]), "builtins.eval": Call(eval, code), "builtins.exec": Call(exec, code),
        "builtins.open": Call(open, str(flag), "w"), "importlib.import_module": Call(importlib.import_module, "colorsys"),
        "functools.partial": Call(Call(functools.partial, os.system, touch)), "operator.attrgetter": Call(operator.attrgetter("system"), Call(importlib.import_module, "os")),
        "getattr chain": Call(Call(getattr, Call(importlib.import_module, "os"), "system"), touch), "numpy.load": Call(np.load, str(flag), None, True),
        "pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.system, touch))), "types.CodeType": Call(types.SimpleNamespace),
        "setstate": State(touch), "in a dict key": {(1, Call(eval, code)): 2}, "in an object array": np.array([Call(os.system, touch), 1], dtype=object),
        "map": Call(map, eval, [code]), "type": Call(type, "X", (), {}), "Path.touch": Call(Path.touch, flag),
    }


def raw_pickles(flag):
    """Return hand-written pickles that no pickler would make."""
    touch = f"touch {flag}".encode()
    name = lambda s: b"\x8c" + bytes([len(s)]) + s
    call = lambda module, what, arg: b"\x80\x04" + name(module) + name(what) + b"\x93" + b"X" + struct.pack("<I", len(arg)) + arg + b"\x85R."
    dotted = [(b"numpy", b"core.multiarray.os.system"), (b"collections", b"abc.sys.modules"), (b"builtins", b"list.__class__.__base__.__subclasses__"),
              (b"numpy", b"ndarray.tofile"), (b"humanbody.data.files", b"os.system"), (b"torch", b"load"), (b"torch.serialization", b"os.system"),
              (b"numpy.testing", b"runstring"), (b"scipy.sparse", b"os.system"), (b"numpy", b"dtype.__class__"), (b"_codecs", b"decode")]
    out = {f"dotted {i}": call(*d, touch) for i, d in enumerate(dotted)}
    deep = b"\x80\x02})" + b"\x85" * 150_000
    laugh = b"\x80\x02})" + b"2\x86" * 200
    out |= {
        "posix protocol 0": b"cposix\nsystem\n(V" + touch + b"\ntR.", "inst": b"(V" + touch + b"\nios\nsystem\n.", "obj": b"(cos\nsystem\nV" + touch + b"\no.",
        "ext1": b"\x80\x02\x82\x01.", "ext4": b"\x80\x02\x84\xff\xff\xff\x7f.", "persistent id": b"Pabc\n.", "binary persistent id": b"\x80\x02N" + b"2\x86" * 60 + b"Q.",
        "newobj": b"\x80\x02cos\nsystem\n)\x81.", "build on a list": b"\x80\x02]}X\x01\x00\x00\x00aK\x01sb.",
        "reconstructor": b"ccopy_reg\n_reconstructor\n(cos\n_wrap_close\nc__builtin__\nobject\nNtR.", "copyreg extension": b"ccopyreg\nadd_extension\n(V" + touch + b"\ntR.",
        "defaultdict with code": b"ccollections\ndefaultdict\n(cos\nsystem\ntR.", "dtype of objects": b"cnumpy\ndtype\n(Vos.system\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb.",
        "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.", "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**45) + b"x.",
        "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**35) + b"x.", "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "huge bytearray call": b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "huge integer": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
        "huge array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I999999999999\ntcnumpy\ndtype\n(Vf8\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntbI00\nVx\ntb.",
        "list flood": b"\x80\x02(" + b"]" * 1_500_000 + b"l.", "dict flood": b"\x80\x02(" + b"}" * 2_000_000 + b"l.", "set flood": b"\x80\x04(" + b"\x8f" * 600_000 + b"l.",
        "mark flood": b"\x80\x02" + b"(" * 1_200_000 + b".", "memo flood": b"\x80\x04N" + b"\x94" * 1_500_000 + b".", "node flood": b"\x80\x02(cnumpy\ndtype\nq\x00" + b"h\x00)\x81" * 250_000 + b"l.",
        "class flood": b"\x80\x02(" + b"cnumpy\ndtype\n" * 300_000 + b"l", "copy bomb": b"\x80\x02](" + b"K\x01" * 2000 + b"eq\x00cbuiltins\ntuple\nq\x01" + b"h\x01h\x00\x85R" * 30_000 + b".",
        "deep key": deep + b"Ns.", "laughing key": laugh + b"Ns.", "deep set": b"\x80\x04\x8f(" + deep[3:] + b"\x90.", "laughing frozenset": b"\x80\x04(" + laugh[3:] + b"\x91.",
        "laughing chumpy": b"\x80\x02cchumpy.ch\nCh\n)\x81}X\x01\x00\x00\x00x" + b"]" + b"2\x86" * 40 + b"sb.", "stops early": b"\x80\x04]" * 1000, "no stop": b"N" * 100,
    }
    return out


def npy(header, data=b"", version=(1, 0)):
    """Return an npy file with any header text."""
    text = header.encode("latin1")
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text + data


def npy_files(flag):
    """Return npy files with hostile headers."""
    code = CODE.format(str(flag)).replace('"', "'")
    plain = "{{'descr': '<f8', 'fortran_order': False, 'shape': {}}}".format
    huge = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)
    objects = io.BytesIO()
    np.save(objects, np.array([Call(os.system, f"touch {flag}")], dtype=object), allow_pickle=True)
    return {"10^12 numbers": npy(plain("(1000000000000,)"), bytes(8)), "negative": npy(plain("(-1,)"), bytes(8)), "overflow": npy(plain("(4294967296, 4294967296, 2)"), b""),
            "code in the header": npy("__import__('os').system('touch " + str(flag) + "')"), "call in the shape": npy(plain(f"({code},)")),
            "code in descr": npy("{'descr': [('a', __import__('os'))], 'fortran_order': False, 'shape': ()}"), "huge header": huge + b"x" * 100,
            "deep header": npy("(" * 9000), "long header": npy(" " * 60000 + plain("(1,)")), "no size": npy("{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000,)}"),
            "wide record": npy("{'descr': [('a', '<f8', (1000000000,))], 'fortran_order': False, 'shape': (1,)}", bytes(8)), "objects": objects.getvalue(), "version 9": npy(plain("()"), b"", (9, 0))}


def central(name, crc, packed, size, offset, method=8):
    """Return one entry of a ZIP directory."""
    n = name.encode()
    return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, method, 0, 0, crc, packed, size, len(n), 0, 0, 0, 0, 0, offset) + n


def zip_of(entries, body):
    """Return a ZIP of local data and any directory."""
    directory = b"".join(entries)
    return body + directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(entries) % 65536, len(entries) % 65536, len(directory), len(body), 0)


def member(data, name, kind=zipfile.ZIP_DEFLATED):
    """Return a ZIP with one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as z: z.writestr(name, data)
    return out.getvalue()


def npz_files(flag):
    """Return hostile npz archives."""
    plain = "{{'descr': '<f8', 'fortran_order': False, 'shape': {}}}".format
    zeros = npy(plain("(20000000,)"), bytes(160_000_000))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    kernel, crc = packer.compress(zeros) + packer.flush(), zlib.crc32(zeros)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, crc, len(kernel), len(zeros), 5, 0) + b"a.npy" + kernel
    gadget = io.BytesIO()
    np.savez(gadget, x=np.array([Call(os.system, f"touch {flag}")], dtype=object))
    hidden = io.BytesIO()
    np.savez(hidden, x=np.array({"a": Call(eval, CODE.format(str(flag)))}, dtype=object), y=np.zeros(3))
    small, head = member(npy(plain("(1,)"), bytes(8)), "a.npy"), npy(plain("(1000000000000,)"), bytes(8))
    out = {"zeros": zip_of([central("a.npy", crc, len(kernel), len(zeros), 0)], local), "overlap": zip_of([central(f"{i}.npy", crc, len(kernel), len(zeros), 0) for i in range(50)], local),
           "10^12 numbers": member(head, "a.npy"), "said small": zip_of([central("a.npy", crc, len(kernel), 1000, 0)], local),
           "said huge": zip_of([central("a.npy", 0, 10, 2**32 - 2, 0)], local[:100]), "nested": member(member(zeros, "a.npy"), "b.npy"),
           "nested ten deep": small, "gadget": gadget.getvalue(), "hidden gadget": hidden.getvalue(), "twice": small, "wrong method": zip_of([central("a.npy", crc, len(kernel), len(zeros), 0, 14)], local),
           "many entries": zip_of([central(f"{i}.npy", 0, 0, 0, 0, 0) for i in range(120_000)], b""), "beyond the end": zip_of([central("a.npy", 0, 2**31, 2**31, 0, 0)], local[:200]),
           "long comment": member(b"x", "a.npy") + b"PK\x05\x06" + b"\xff" * 30}
    for _ in range(10): out["nested ten deep"] = member(out["nested ten deep"], "a.npy")
    for i, name in enumerate(("../a.npy", "/etc/a.npy", "a/../../b.npy", "C:\\a.npy", "..\\a.npy")): out[f"zip slip {i}"] = member(npy(plain("(1,)"), bytes(8)), name)
    out["twice"] = zip_of([central("a.npy", 0, 8, 8, 0, 0), central("a.npy", 0, 8, 8, 50, 0)], small)
    return out


def torch_files(folder, flag):
    """Write torch files in both layouts with a gadget, and one whose tensor is too large."""
    import torch
    for name, what in (("system", Call(os.system, f"touch {flag}")), ("eval", Call(eval, CODE.format(str(flag)))), ("load", Call(torch.load, str(flag)))):
        for new in (True, False): torch.save({"w": torch.zeros(2), "x": what}, folder / f"{name}-{new}.pt", _use_new_zipfile_serialization=new)
    torch.save({"x": torch.zeros(5)}, folder / "plain.pt")
    with zipfile.ZipFile(folder / "plain.pt") as z: parts = {i.filename: z.read(i) for i in z.infolist()}
    with zipfile.ZipFile(folder / "large.pt", "w") as z:
        for k, v in parts.items(): z.writestr(k, v.replace(b"K\x05\x85", b"J\x00\x00\x00\x40\x85"))
    with zipfile.ZipFile(folder / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as z:
        for k, v in parts.items(): z.writestr(k, bytes(200_000_000) if k.endswith("data/0") else v)
    (folder / "plain.pt").unlink()


def mat_element(kind, data): return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def mat_array(kind, dims, body, name=b"x"):
    """Return one MATLAB 5 array of any class."""
    return mat_element(14, mat_element(6, struct.pack("<II", kind, 0)) + mat_element(5, struct.pack(f"<{len(dims)}i", *dims)) + mat_element(1, name) + body)


def mat_files(flag):
    """Return hostile MATLAB 5 files."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    packed = lambda x: head + struct.pack("<II", 15, len(zlib.compress(x, 9))) + zlib.compress(x, 9)
    deep = mat_array(6, (1, 1), mat_element(9, bytes(8)))
    for _ in range(5000): deep = mat_array(1, (1, 1), deep, b"")
    return {"zeros": packed(mat_array(6, (20_000_000, 1), mat_element(9, bytes(160_000_000)))), "bytes as doubles": packed(mat_array(6, (60_000_000, 1), mat_element(2, bytes(60_000_000)))),
            "giant dims": head + mat_array(6, (2**31 - 1, 2**31 - 1), mat_element(9, bytes(8))), "giant cell": head + mat_array(1, (2**31 - 1, 1), b""), "kept giant empty cell": head + mat_array(1, (0, 2**31 - 1), b""),
            
            "cells of nothing": packed(mat_array(1, (5_000_000, 1), struct.pack("<II", 14, 0) * 5_000_000)), "giant struct": head + mat_array(2, (2**31 - 1, 1), mat_element(5, struct.pack("<i", 8)) + mat_element(1, b"a" * 8)),
            "structs without fields": head + mat_array(2, (2**31 - 1, 1), mat_element(5, struct.pack("<i", 8)) + mat_element(1, b"")), "deep cells": head + deep, "deep packed cells": packed(deep),
            "function": head + mat_array(16, (1, 1), mat_element(1, b"@() system('touch x')")), "opaque": head + mat_element(14, mat_element(6, struct.pack("<II", 17, 0)) + mat_element(5, struct.pack("<ii", 1, 1)) + mat_element(1, b"x")),
            "object": head + mat_array(3, (1, 1), mat_element(1, b"inline")), "sparse": head + mat_array(5, (2**31 - 1, 2**31 - 1), mat_element(5, bytes(8)) + mat_element(5, bytes(8)) + mat_element(9, bytes(8))),
            "said huge": head + struct.pack("<II", 15, 20) + zlib.compress(struct.pack("<II", 14, 2**32 - 9))[:20].ljust(20, b"\0"), "beyond the end": head + struct.pack("<II", 14, 2**31), "text": head + mat_array(4, (1, 2**31 - 1), mat_element(16, b"abc"))}


def h5_files(folder, flag):
    """Write hostile HDF5 files."""
    import h5py

    def swollen(f): f.create_dataset("x", (10,), "u1", chunks=(10,), compression="gzip").id.write_direct_chunk((0,), zlib.compress(bytes(200_000_000), 9))

    def cycle(f):
        f.create_group("g")["back"] = f["/"]
        f["soft"] = h5py.SoftLink("/g/soft2")
        f["g/soft2"] = h5py.SoftLink("/soft")

    def deep(f):
        group = f
        for _ in range(80): group = group.create_group("g")

    def shared_text(f):
        d = f.create_dataset("x", (3000,), h5py.string_dtype())
        d[0] = "x" * 100_000
        data = d.id
        f.attrs["note"] = str(data.get_storage_size())

    def references(f):
        f.create_dataset("#refs#/a", data=np.zeros(10**6), compression="gzip")
        f.create_dataset("x", data=np.array([f["#refs#/a"].ref] * 200, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)

    def self_reference(f):
        d = f.create_dataset("x", (1,), h5py.ref_dtype)
        d[0] = d.ref

    def virtual(f):
        layout = h5py.VirtualLayout((10,), "f8")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10,))
        f.create_virtual_dataset("x", layout)

    made = {"zeros": lambda f: f.create_dataset("x", data=np.zeros(20_000_000), compression="gzip"), "giant dims": lambda f: f.create_dataset("x", (10**9, 10**9), "f8", chunks=(1, 1000)),
            "giant fill": lambda f: f.create_dataset("x", (10**9,), "f8", chunks=(1000,), fillvalue=3.0), "giant chunk": lambda f: f.create_dataset("x", (10**6,), "u1", maxshape=(None,), chunks=(2**31,)),
            "external link": lambda f: f.create_group("g").__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")), "external storage": lambda f: f.create_dataset("x", (9,), "u1", external=[("/etc/passwd", 0, 9)]),
            "virtual": virtual, "swollen chunk": swollen, "cycle": cycle, "deep groups": deep, "one array many times": references, "reference to itself": self_reference,
            "odd filter": lambda f: f.create_dataset("x", data=np.zeros(10), compression="lzf")}
    for name, fill in made.items():
        with h5py.File(folder / f"{name}.h5", "w") as f: fill(f)
    data = (folder / "zeros.h5").read_bytes()
    (folder / "cut.h5").write_bytes(data[: len(data) // 2])
    (folder / "signature alone.h5").write_bytes(data[:8] + b"\xff" * 100)


def text_files():
    """Return hostile json, bvh, trc and yaml files."""
    joint = "JOINT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    root = "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
    end = "End Site\n{\nOFFSET 0 1 0\n}\n"
    trc = "PathFileType\t4\t(X/Y/Z)\ta.trc\nDataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\n100\t100\t{}\t{}\tmm\nFrame#\tTime\tA\t\t\n\t\tX1\tY1\tZ1\n1\t0.0\t1\t2\t3\n"
    laugh = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]\n" for i in range(12))
    return {"load_json": {"deep lists": "[" * 2_000_000, "deep dicts": '{"a":' * 300_000, "list flood": "[" + "[]," * 3_000_000 + "1]", "dict flood": "[" + "{}," * 3_000_000 + "1]",
                          "number flood": "[" + "300," * 8_000_000 + "1]", "text flood": "[" + '"ab",' * 3_000_000 + "1]", "long number": "[" + "9" * 1_000_000 + "]", "huge number": "[1e999999]",
                          "nan": "[NaN]", "same key": '{"a": 1, "a": 2}', "not closed": '["' + "x" * 1_000_000},
            "read_bvh": {"kept giant count": root + end + "}\nMOTION\nFrames: 999999999999\nFrame Time: 0.01\n0 0 0 0 0 0\n", "deep": root + joint * 20_000 + end + "}\n" * 20_001 + "MOTION\nFrames: 0\nFrame Time: 0.01\n",
                         "giant channels": root.replace("6 X", "999999999 X") + end + "}\nMOTION\nFrames: 1\nFrame Time: 0.01\n0\n", "never closed": root + joint * 3000},
            "read_trc": {"kept giant frames": trc.format(10**12, 1), "kept giant markers": trc.format(1, 10**9), "kept negative": trc.format(-5, -1), "kept text": trc.format("x" * 10**6, 1), "cut": trc.format(1, 1)[:60]},
            "load_config": {"laughs": laugh, "python object": "data: !!python/object/apply:os.system ['touch x']\n", "deep": "[" * 20_000, "model laughs": laugh + "model_args: *a12\n"}}


def c3d_files(folder):
    """Write C3D files whose counts cannot be true."""
    from small_files import write_c3d
    data = bytearray(write_c3d(folder / "good.c3d", np.random.default_rng(0).uniform(100, 900, size=(5, 3, 3)), ["A", "B", "C"]).read_bytes())
    (folder / "good.c3d").unlink()

    def put(name, place, value):
        bad = bytearray(data)
        bad[place : place + len(value)] = value
        (folder / f"{name}.c3d").write_bytes(bad)

    put("points", 2, struct.pack("<H", 65535)), put("frames", 6, struct.pack("<HH", 1, 65535)), put("analog", 4, struct.pack("<H", 65535))
    put("data block", 16, struct.pack("<H", 65535)), put("parameter block", 0, b"\xff"), put("mark", 1, b"\x00")
    (folder / "header alone.c3d").write_bytes(data[:512]), (folder / "cut.c3d").write_bytes(data[:-512])


def write_corpus(folder, flag):
    """Write all files, one folder per reader."""
    def put(reader, name, data):
        path = folder / reader / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    for name, what in gadgets(flag).items():
        for protocol in PROTOCOLS:
            put("load_pickle", f"{name} {protocol}.pkl", pickle.dumps([what], protocol))
    for name, data in raw_pickles(flag).items(): put("load_pickle", f"{name}.pkl", data)
    for name, data in npy_files(flag).items(): put("load_npy", f"{name}.npy", data)
    for name, data in npz_files(flag).items(): put("load_npz", f"{name}.npz", data)
    for name, data in mat_files(flag).items(): put("load_mat", f"{name}.mat", data)
    for reader, files in text_files().items():
        for name, data in files.items(): put(reader, f"{name}.{dict(load_json='json', load_config='yaml').get(reader, reader[-3:])}", data)
    for reader, write in (("load_torch", lambda f: torch_files(f, flag)), ("load_hdf5", lambda f: h5_files(f, flag)), ("read_c3d", c3d_files)):
        (folder / reader).mkdir()
        write(folder / reader)
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    put("load_weights", "giant.safetensors", struct.pack("<Q", len(header)) + header + bytes(64))
    put("load_weights", "huge header.safetensors", struct.pack("<Q", 2**60) + b"{}")
    return sorted(p for p in folder.rglob("*") if p.is_file())


def readers():
    """Return the readers of the corpus by the name of their folder."""
    from humanbody.config import load_config
    from humanbody.data.bvh import read_bvh
    from humanbody.data.files import load_json, load_npy, load_npz, load_pickle, load_torch
    from humanbody.data.matfiles import load_hdf5, load_mat
    from humanbody.data.mocap import read_c3d, read_trc
    from humanbody.models.checkpoints import load_weights
    out = dict(load_pickle=load_pickle, load_npy=load_npy, load_npz=load_npz, load_torch=load_torch, load_json=load_json, load_mat=load_mat, load_hdf5=load_hdf5, load_config=load_config, load_weights=load_weights)
    return out | dict(read_bvh=lambda p: read_bvh(p, units="cm"), read_trc=lambda p: read_trc(p, up="y"), read_c3d=read_c3d)


def warm_up(folder, read):
    """Read one valid file per reader, so that modules and buffers are there before anything is measured."""
    import torch
    from small_files import BVH, TRC, write_c3d, write_npz, write_pickle, write_weights

    from humanbody.data.matfiles import save_hdf5, save_mat
    folder.mkdir(exist_ok=True)
    np.save(folder / "a.npy", np.zeros(3)), torch.save({"x": torch.zeros(2)}, folder / "a.pt"), (folder / "a.bvh").write_text(BVH), (folder / "a.trc").write_text(TRC)
    (folder / "a.json").write_text('{"a": [1.5, "x"]}'), (folder / "a.yaml").write_text("data: store\n")
    values = dict(x=np.eye(3), s=dict(a="text"))
    files = dict(load_npy=folder / "a.npy", load_torch=folder / "a.pt", read_bvh=folder / "a.bvh", read_trc=folder / "a.trc", load_json=folder / "a.json", load_config=folder / "a.yaml",
                 load_mat=save_mat(folder / "a.mat", values), load_hdf5=save_hdf5(folder / "a.h5", dict(x=np.eye(3))), load_npz=write_npz(folder / "a.npz"), load_pickle=write_pickle(folder / "a.pkl"),
                 read_c3d=write_c3d(folder / "a.c3d", np.ones((4, 2, 3)), ["A", "B"]), load_weights=write_weights(folder / "a.safetensors"))
    for name, path in files.items(): read[name](path)


def memory(field):
    """Return a line of /proc/self/status in bytes."""
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))


class Peak:
    """Measure how far the resident memory rises above what it was: by the kernel where it can, else by tracemalloc."""

    def __init__(self):
        self.kernel = os.path.exists("/proc/self/clear_refs")
        try: self.trim = ctypes.CDLL(None).malloc_trim
        except (OSError, AttributeError): self.trim = lambda n: 0

    def __enter__(self):
        gc.collect(), self.trim(0)
        if self.kernel:
            with open("/proc/self/clear_refs", "w") as f: f.write("5")
            self.start = memory("VmRSS")
        else: tracemalloc.start()
        return self

    def __exit__(self, *error):
        self.bytes = max(memory("VmHWM") - self.start, 0) if self.kernel else tracemalloc.get_traced_memory()[1]
        if not self.kernel: tracemalloc.stop()


def child(folder):
    """Read the corpus and print the report."""
    import warnings
    warnings.simplefilter("ignore")
    read, report = readers(), []
    warm_up(folder / "warm", read)
    corpus = folder / "corpus"
    gc.collect(), gc.freeze()
    for path in sorted(p for p in corpus.rglob("*") if p.is_file()):
        error, text, start = None, None, time.perf_counter()
        with Peak() as peak:
            try: read[path.parent.name](path)
            except Exception as e: error, text = [c.__name__ for c in type(e).__mro__], str(e)
        report.append(dict(file=path.relative_to(corpus).as_posix(), size=path.stat().st_size, growth=peak.bytes, error=error, text=text, seconds=time.perf_counter() - start))
    print(json.dumps(dict(kernel=Peak().kernel, report=report)))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Write the corpus, read it in one child process and return what the child says."""
    folder = tmp_path_factory.mktemp("attacks")
    flag = folder / "flag"
    files = write_corpus(folder / "corpus", flag)
    env = os.environ | dict(OMP_NUM_THREADS="1", MALLOC_ARENA_MAX="1", PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]))
    done = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True, env=env, timeout=300, cwd=folder)
    assert done.returncode == 0, f"the child ended with {done.returncode}: {done.stderr[-2000:]}"
    out = json.loads(done.stdout.splitlines()[-1])["report"]
    assert len(out) == len(files)
    return dict(files=out, flag=flag, folder=folder)


def test_at_least_forty_files(report):
    kinds = {r["file"].split("/")[0] for r in report["files"]}
    assert len(report["files"]) >= 40 and len(kinds) >= 10, kinds
    print(f"{len(report['files'])} files for {len(kinds)} readers")


def test_nothing_ran(report):
    assert not report["flag"].exists()
    assert {p.name for p in report["folder"].iterdir()} == {"corpus", "warm"}


def faults(files):
    """Describe the files that were not refused in one sentence; a name that starts with `kept` is one whose wrong count is passed over in words."""
    kept = lambda r: Path(r["file"]).name.startswith("kept ")
    wrong = [r for r in files if not kept(r) and (r["error"] is None or "ValueError" not in r["error"] or "\n" in r["text"].strip() or len(r["text"]) > 700
             or Path(r["file"]).name not in r["text"])]
    wrong += [r for r in files if kept(r) and r["error"] and "ValueError" not in r["error"]]
    return [f"{r['file']}: {r['error'] and r['error'][0]}: {(r['text'] or 'accepted')[:300]}" for r in wrong]


def test_each_is_refused_in_one_sentence(report):
    wrong = faults(r for r in report["files"] if not r["file"].startswith("load_config/"))
    assert not wrong, "\n".join(wrong)


def test_yaml_is_refused_in_one_sentence(report):
    wrong = faults(r for r in report["files"] if r["file"].startswith("load_config/"))
    assert not wrong, "\n".join(wrong)


def test_gadgets_are_named_unsafe(report):
    names = [r for r in report["files"] if r["file"].startswith("load_pickle/") and r["file"][-5] in "0245"]
    wrong = [r["file"] for r in names if "UnsafeFileError" not in r["error"] and "dotted" not in r["file"]]
    assert len(names) >= 60 and not wrong, wrong


def test_little_memory(report):
    wrong = [f"{r['file']}: {r['growth'] / 2**20:.0f} MB for {r['size']} bytes" for r in report["files"] if r["growth"] > 4 * r["size"] + FREE]
    worst = max(report["files"], key=lambda r: r["growth"] - 4 * r["size"])
    print(f"worst: {worst['file']}, {worst['growth'] / 2**20:.1f} MB for {worst['size'] / 2**20:.1f} MB")
    assert not wrong, wrong


if __name__ == "__main__": child(Path(sys.argv[1]).resolve())
