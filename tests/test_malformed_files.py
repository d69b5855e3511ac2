"""Malformed containers and paths (data_formats.md 11): each ends in one clear sentence or the stated fallback. The case number is in the test's name."""
import errno
import io
import json
import os
import pickle
import struct
import unicodedata
import zipfile

import numpy as np
import pytest
from test_attacks import Call, Peak, member, npy

from humanbody.data.files import UnsafeFileError, atomic_write, load_json, load_npy, load_npz, load_pickle, load_torch, save_json, save_npz
from humanbody.data.matfiles import iter_hdf5_cells, load_hdf5, load_mat, save_hdf5, save_mat
from humanbody.data.paths import natural_key, resolve_image, safe_join, walk_files


def says(call, *words, error=ValueError):
    """The call raises one error of one sentence that holds all the words."""
    with pytest.raises(error) as e: call()
    text = str(e.value)
    missing = [w for w in words if w not in text]
    assert not missing, f"{missing} not in: {text}"
    assert "\n" not in text and len(text) < 700, text
    return text


def written(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def arrays(path): return save_npz(path, imgname=np.array(["a.jpg", "b.jpg"]), center=np.ones((2, 2)), scale=np.random.default_rng(0).random(2000))


def test_case_01_npz_cut_inside_a_member(tmp_path):
    whole = arrays(tmp_path / "a.npz").read_bytes()
    for n in (10, len(whole) // 3, len(whole) - 400, len(whole) - 30, len(whole) - 1):
        says(lambda: load_npz(written(tmp_path / "a.npz", whole[:n])), "a.npz", "expected", "found", "copy")
    bad = bytearray(whole)
    bad[len(whole) // 2] ^= 255
    says(lambda: load_npz(written(tmp_path / "a.npz", bad)), "a.npz[scale]", "copy it again")
    assert load_npz(tmp_path / "a.npz", ["center"])["center"].shape == (2, 2)


def test_case_02_zero_bytes(tmp_path):
    readers = dict(pkl=load_pickle, npz=load_npz, npy=load_npy, json=load_json, mat=load_mat, h5=load_hdf5)
    for ending, read in readers.items():
        says(lambda: read(written(tmp_path / f"a.{ending}", b"")), f"a.{ending}", "an empty file")
    says(lambda: load_torch(written(tmp_path / "a.pt", b"")), "a.pt", "torch checkpoint")
    says(lambda: load_npz(tmp_path / "none.npz"), "none.npz", "found nothing", error=FileNotFoundError)
    says(lambda: load_npz(tmp_path), "a folder", error=FileNotFoundError)


def test_case_03_npz_that_is_something_else(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    path = tmp_path / "a.npz"
    says(lambda: load_npz(written(path, (tmp_path / "x.npy").read_bytes())), "a.npz", "a single array", "load_npy")
    says(lambda: load_npz(written(path, member(b"<html></html>", "word/document.xml"))), "document.xml", "npy header")
    says(lambda: load_npz(written(path, pickle.dumps(dict(a=1)))), "a.npz", "ZIP archive")
    says(lambda: load_npy(arrays(tmp_path / "b.npy")), "b.npy", "npy header")
    says(lambda: load_pickle(arrays(tmp_path / "c.pkl")), "c.pkl", "a ZIP archive", "use load_npz")
    says(lambda: load_json(arrays(tmp_path / "d.json")), "d.json", "JSON text")


def test_case_04_npy_with_objects(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"imgname": "a.jpg", "x": np.arange(3)}, dtype=object))
    assert load_npy(tmp_path / "a.npy").item()["x"].tolist() == [0, 1, 2]  # the stated fallback: plain objects are read safely
    says(lambda: load_npy(tmp_path / "a.npy", mmap=True), "plain numbers", "object")
    np.save(tmp_path / "a.npy", np.array([Call(os.system, f"touch {tmp_path}/flag")], dtype=object))
    says(lambda: load_npy(tmp_path / "a.npy"), "system", "nothing was executed", error=UnsafeFileError)
    assert not (tmp_path / "flag").exists()


def test_case_20_json_empty_null_or_not_json(tmp_path):
    path = tmp_path / "a.json"
    for text in ("", " \n\t", "\ufeff"): says(lambda: load_json(written(path, text)), "a.json", "found")
    says(lambda: load_json(written(path, "null")), "found null", "export the file again")
    says(lambda: load_json(written(path, '{"a": 1,\n "b": }')), "line 2 column 7")
    says(lambda: load_json(written(path, '[1, 2\n\n 3]')), "line 3 column 2")
    says(lambda: load_json(written(path, "{'a': 1}")), "line 1 column 2")
    says(lambda: load_json(written(path, '[{"keypoints": [1, 2')), "line 1 column")
    says(lambda: load_json(written(path, "<!DOCTYPE html>")), "line 1 column 1")
    says(lambda: load_json(written(path, '["é"]'.encode("latin1"))), "UTF-8", "byte 2")
    says(lambda: load_json(written(path, "[" * 100_000)), "nested too deeply")
    assert load_json(written(path, '\ufeff{"a": [0, false, ""]}')) == {"a": [0, False, ""]} and load_json(written(path, "[]")) == []


def test_case_21_json_with_nan_and_infinity(tmp_path):
    path = written(tmp_path / "a.json", '{"note": "NaN is text here",\n "keypoints": [1.5, NaN, -Infinity]}')
    says(lambda: load_json(path), "the token NaN at line 2 column 21")
    says(lambda: load_json(written(tmp_path / "b.json", '{"a": ["Infinity", -Infinity]}')), "the token -Infinity at line 1 column 20")
    says(lambda: load_json(written(tmp_path / "b.json", "[1, 1e400]")), "1e400 at line 1 column 5")
    got = load_json(path, allow_nan=True)["keypoints"]
    assert np.isnan(got[1]) and got[2] == -np.inf
    assert load_json(save_json(tmp_path / "c.json", dict(x=float("nan")))) == {"x": None}


def test_case_31_image_paths(tmp_path):
    root = tmp_path / "images"
    for name in ("S9/a_000001.jpg", "TS1/imageSequence/img_000001.jpg", "im00001.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "secret.jpg").touch()
    for name in ("S9\\a_000001.jpg", "./S9/a_000001.jpg", "s9/A_000001.JPG", "images/S9/a_000001.jpg", b"S9/a_000001.jpg"):
        assert resolve_image(root, name) == root / "S9/a_000001.jpg", name
    assert resolve_image(root, "mpi_inf_3dhp_test_set/TS1/imageSequence/img_000001.jpg") and resolve_image(root, "im00001.jpg") == root / "im00001.png"
    for name, word in (("/etc/passwd", "absolute"), ("../secret.jpg", "'..'"), ("S9/../../secret.jpg", "'..'"), ("..\\secret.jpg", "'..'"), ("C:\\a.jpg", "drive"),
                       ("\\\\host\\a.jpg", "absolute"), ("a\0.jpg", "control"), ("~/a.jpg", "home"), ("", "empty")):
        for call in (safe_join, resolve_image): says(lambda: call(root, name), "file name", word, "annotation file", error=UnsafeFileError)
    assert resolve_image(root, "none.jpg") is None and resolve_image(root, "S9") is None


def test_case_32_names_beyond_ascii(tmp_path):
    root = tmp_path / "Bilder é 图"
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, f"größe {form}/été 1.jpg")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        for other in ("NFC", "NFD"):
            text = unicodedata.normalize(other, name)
            assert resolve_image(root, text) == root / name and resolve_image(root, text.encode()) == root / name
    path = save_hdf5(root / "train é.h5", dict(imgname=np.array([f"größe NFC/été {i}.jpg".encode() for i in range(3)])))
    assert resolve_image(root, load_hdf5(path)["imgname"][1]) == root / "größe NFC/été 1.jpg"
    for read, made in ((load_npz, arrays(root / "ü ü.npz")), (load_json, save_json(root / "ü ü.json", [1])), (load_mat, save_mat(root / "ü ü.mat", dict(a=1.0)))): read(made)
    with open(os.fsencode(root) + b"/\xe9.jpg", "wb"): pass
    assert resolve_image(root, b"\xe9.jpg") is not None and len(list(walk_files(root, "*.jpg"))) == 3
    assert sorted(["2.jpg", "10.jpg", "1.jpg"], key=natural_key) == ["1.jpg", "2.jpg", "10.jpg"]


@pytest.mark.parametrize("protocol", range(6))
def test_case_41_pickle_that_runs_code(tmp_path, protocol):
    import importlib
    for what, name in ((Call(os.system, f"touch {tmp_path}/flag"), "system"), (Call(eval, "1"), "eval"), (Call(importlib.import_module, "colorsys"), "import_module")):
        says(lambda: load_pickle(written(tmp_path / "a.pkl", pickle.dumps({"x": [what]}, protocol))), "a.pkl", name, "nothing was executed", error=UnsafeFileError)
    assert not (tmp_path / "flag").exists()


def test_case_42_pickle_of_an_unknown_class(tmp_path):
    raw = b"\x80\x02c__main__\nMyMesh\n)\x81}X\x01\x00\x00\x00vK\x01sb."
    says(lambda: load_pickle(written(tmp_path / "a.pkl", raw)), "a.pkl", "__main__.MyMesh", "ask for the file as .npz", error=UnsafeFileError)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        good = io.BytesIO()
        np.save(good, np.arange(3))
        z.writestr("A.npy", good.getvalue()), z.writestr("M.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", raw))
    path = written(tmp_path / "mesh_downsampling.npz", out.getvalue())
    assert load_npz(path, ["A"])["A"].tolist() == [0, 1, 2]  # members are read one by one: the known file with psbody objects stays usable
    says(lambda: load_npz(path), "[M]", "MyMesh", error=UnsafeFileError)


def test_case_43_pickles_of_numpy_1_and_2(tmp_path):
    value = dict(x=np.arange(6.0).reshape(2, 3), n=np.float32(2.5), o=np.array([None, "a"], dtype=object))
    for protocol in range(6):
        new = pickle.dumps(value, protocol)
        old = new.replace(b"numpy._core", b"numpy.core") if protocol < 4 else new.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
        for data in (new, old) if protocol < 4 else (new,):
            got = load_pickle(written(tmp_path / "a.pkl", data))
            np.testing.assert_array_equal(got["x"], value["x"])
            assert got["n"] == value["n"] and got["o"][1] == "a"
        assert protocol >= 4 or old != new


def test_case_44_python_2_pickle(tmp_path):
    raw = np.array([1.5, -2.25]).tobytes()
    data = (b"\x80\x02}U\x04caf\xe9cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
            b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10" + raw + b"tbs.")
    with pytest.raises(UnicodeDecodeError): pickle.loads(data)
    assert load_pickle(written(tmp_path / "a.pkl", data))["café"].tolist() == [1.5, -2.25]
    says(lambda: load_pickle(tmp_path / "a.pkl", encoding="ascii"), "a.pkl", "a complete pickle")


def test_case_45_pickle_cut_or_with_giant_lengths(tmp_path):
    whole = pickle.dumps(dict(x=np.arange(100.0), names=["a"] * 20), 4)
    for n in range(1, len(whole), 37): says(lambda: load_pickle(written(tmp_path / "a.pkl", whole[:n])), "a.pkl", "found")
    giants = [b"\x80\x04\x8e" + struct.pack("<Q", 2**45) + b"x.", b"\x80\x05\x96" + struct.pack("<Q", 2**35) + b"x.", b"\x80\x04\x95" + struct.pack("<Q", 2**62), b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x."]
    for data in giants:
        with Peak() as peak: says(lambda: load_pickle(written(tmp_path / "a.pkl", data)), "a.pkl", "a complete pickle")
        assert peak.bytes < 2**24


def test_case_46_matlab_73_and_5_exchanged(tmp_path):
    block = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    new = save_hdf5(tmp_path / "new.mat", dict(annot2=np.ones((3, 1, 17, 2)), Masks=[np.eye(4) > 0] * 3), block)
    old = save_mat(tmp_path / "old.mat", dict(joints=np.ones((3, 14, 20))))
    says(lambda: load_mat(new), "new.mat", "MATLAB 7.3, which is HDF5", "use load_hdf5")
    says(lambda: load_hdf5(old), "old.mat", "a MATLAB 5 file", "use load_mat")
    assert load_hdf5(new)["annot2"].shape == (3, 1, 17, 2) and load_mat(old)["joints"].shape == (3, 14, 20)
    assert [m.sum() for m in iter_hdf5_cells(new, "Masks")] == [4, 4, 4]
    says(lambda: load_mat(written(tmp_path / "x.mat", b"not matlab" * 30)), "x.mat", "a MATLAB 5 file", "save -v7")


class FullDisk(io.FileIO):
    def write(self, data): raise OSError(errno.ENOSPC, "No space left on device")


def test_case_63_disk_full_or_read_only(tmp_path, monkeypatch):
    path = save_npz(tmp_path / "cache.npz", a=np.arange(3))
    before, real, box = path.read_bytes(), open, {"kind": FullDisk}

    def failing(file, mode="r", *args, **more):
        if "x" not in mode: return real(file, mode, *args, **more)
        if box["kind"] is FullDisk: return io.BufferedWriter(FullDisk(file, "x"))
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setitem(atomic_write.__wrapped__.__globals__, "open", failing)
    for box["kind"], words in ((FullDisk, "No space left"), (None, "Read-only file system")):
        says(lambda: save_npz(path, a=np.arange(9000)), words, "cache.npz", "the old file is unchanged", "free space", error=OSError)
        says(lambda: save_npz(tmp_path / "new.npz", a=np.arange(9000)), words, "nothing was written", error=OSError)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["cache.npz"]
    says(lambda: save_json(path / "below" / "a.json", [1]), "could not write", "nothing was written", error=OSError)
    if os.geteuid() == 0: return  # root writes anywhere
    tmp_path.chmod(0o500)
    try: says(lambda: save_npz(path, a=np.arange(3)), "Permission denied", "the old file is unchanged", error=OSError)
    finally: tmp_path.chmod(0o700)


def test_case_64_zip_bombs(tmp_path):
    head = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", bytes(8))
    path = written(tmp_path / "a.npz", member(head, "pose.npy"))
    with Peak() as peak: says(lambda: load_npz(path), "a.npz[pose]", "8000000000000 bytes")
    assert peak.bytes < 2**24
    zeros = tmp_path / "z.npz"
    np.savez_compressed(zeros, a=np.zeros(20_000_000), b=np.arange(3))
    with Peak() as peak:
        says(lambda: load_npz(zeros), "z.npz", "max_bytes=")
        assert load_npz(zeros, ["b"])["b"].tolist() == [0, 1, 2]
    assert peak.bytes < 2**25
    assert load_npz(zeros, max_bytes=2**28)["a"].sum() == 0


def test_case_65_json_with_one_key_twice(tmp_path):
    says(lambda: load_json(written(tmp_path / "a.json", '{"a": 1, "b": {"k": 1, "k": 2}}')), "a.json", "'k' twice")
    assert load_json(written(tmp_path / "a.json", '[{"k": 1}, {"k": 2}]')) == [{"k": 1}, {"k": 2}]


def test_case_66_symlink_loops(tmp_path):
    for name in ("a/10.jpg", "a/2.jpg", "b/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/up").symlink_to(".."), (tmp_path / "self").symlink_to("self"), (tmp_path / "b/first").symlink_to("second"), (tmp_path / "b/second").symlink_to("first")
    assert [p.name for p in walk_files(tmp_path, "*.jpg")] == ["2.jpg", "10.jpg"]
    assert len(list(walk_files(tmp_path))) == 3
    assert resolve_image(tmp_path, "a/up/a/up/a/2.jpg").name == "2.jpg" and resolve_image(tmp_path, "self") is None and resolve_image(tmp_path, "b/first/x.jpg") is None
    says(lambda: list(walk_files(tmp_path / "self")), "expected a folder", error=FileNotFoundError)


def test_memory_stays_small_on_honest_files(tmp_path):
    """Reading honest files takes at most 4 times their size and 64 MB."""
    x = np.random.default_rng(0).random((1500, 1000))
    files = {load_npz: save_npz(tmp_path / "a.npz", x=x, y=x), load_mat: save_mat(tmp_path / "a.mat", dict(x=x, y=x)), load_hdf5: save_hdf5(tmp_path / "a.h5", dict(x=x, y=x)),
             load_pickle: written(tmp_path / "a.pkl", pickle.dumps(dict(x=x, y=x, names=[f"frame {i}" for i in range(2000)]), 2)),
             load_json: written(tmp_path / "a.json", json.dumps(np.round(x[:300], 6).tolist()))}
    for read, path in files.items():
        with Peak() as peak: got = read(path)
        assert peak.bytes <= 4 * path.stat().st_size + 2**26, f"{read.__name__}: {peak.bytes} for {path.stat().st_size}"
        del got


def test_fuzz_found_name_too_long(tmp_path):
    for read in (load_json, load_npy, load_pickle): says(lambda: read(tmp_path / ("é" * 300)), "expected a file", "check the path", error=FileNotFoundError)


def test_fuzz_found_words_of_the_archive_are_cut_short(tmp_path):
    """A damaged length in a local header made the message hold the member's bytes."""
    data = bytearray(arrays(tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as z: at = z.getinfo("scale.npy").header_offset
    data[at + 26 : at + 28] = struct.pack("<H", 9000)
    says(lambda: load_npz(written(tmp_path / "a.npz", bytes(data))), "a.npz[scale]", "copy it again")
