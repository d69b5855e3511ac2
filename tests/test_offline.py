"""The package imports and works with sockets blocked, prints nothing, reads nothing on import that is not its own, and imports no heavy package it does not need."""
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                 for p in (ROOT / "humanbody").rglob("*.py"))
GUARD = """
import socket, sys
def refuse(*a, **k): raise AssertionError(f"the network was asked for: {a}")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
opened = []
def audit(event, args):
    if event == "open" and isinstance(args[0], str): opened.append((args[0], args[1]))
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"): opened.append((str(args[0]), "run"))
"""


def run(code, cwd, **env):
    """Run code in a fresh interpreter behind the guard; returns what it printed."""
    base = {k: v for k, v in os.environ.items() if k not in ("HUMANBODY_SAMPLES", "PYTHONPATH")}
    r = subprocess.run([sys.executable, "-c", GUARD + textwrap.dedent(code)], cwd=cwd, capture_output=True, text=True, timeout=300,
                       env={**base, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", **env})
    assert r.returncode == 0, r.stderr[-3000:]
    return r


def test_importing_everything(tmp_path):
    """Silent, without network or other programs, and the only data read are the package's own."""
    r = run(f"""
        import importlib, numpy, scipy, torch, roma, lightning.fabric, torchmetrics  # what these do is not ours
        import matplotlib.pyplot, plotly.graph_objects, scipy.signal, scipy.interpolate, scipy.optimize, yaml
        sys.addaudithook(audit)
        for name in {MODULES}: importlib.import_module(name)
        code = (".py", ".pyc", ".so", ".pth", "METADATA", "entry_points.txt", "__pycache__")
        own = [(p, m) for p, m in opened if not p.endswith(code) and "site-packages" not in p and not p.startswith(("/proc", "/sys", "/usr", "/etc", sys.base_prefix))]
        print("OPENED", [p for p, m in own], file=sys.__stderr__)
        assert not [p for p, m in own if "/humanbody/" not in p.replace("\\\\", "/")], own
        assert not [p for p, m in opened if any(w in p.lower() for w in ("smpl_neutral", "basicmodel", "h36m_sh", ".pkl", ".c3d"))]
        assert not [p for p, m in opened if m in ("w", "wb", "x", "xb", "a", "run")], "written or run on import"
    """, tmp_path)
    assert r.stdout == "", "printed on import: " + r.stdout
    assert not list(tmp_path.iterdir())


def test_body_does_not_import_smplx(tmp_path):
    """Heavy packages wait until they are needed; the free body works without them."""
    run("""
        for name in ("smplx", "chumpy", "anny", "ezc3d", "k3d", "plotly", "matplotlib", "lightning", "torchmetrics", "pandas"): sys.modules[name] = None
        from humanbody.body import load_body
        body = load_body()
        assert body().vertices.shape[-2:] == (body.num_vertices, 3)
        assert body.joints(skeleton="vehs_66").shape[-1] == 3
        import humanbody.losses, humanbody.metrics, humanbody.models.dstformer, humanbody.inference, humanbody.data.mocap, humanbody.data.bvh
    """, tmp_path)


def test_work_without_network(tmp_path):
    """A body, the list of lifters, a small synthetic store and its keypoints, all with sockets blocked."""
    run("""
        from humanbody.body import load_body
        from humanbody.data.store import MotionStore
        from humanbody.data.synthetic import list_tasks, make_store
        from humanbody.inference import list_lifters, load_lifter
        assert load_body().num_joints > 0
        for name in list_lifters(): assert load_lifter(name).card
        make_store("store", subjects=3, tasks=list_tasks()[:1], seconds=1.0, skeletons=["h36m_17"], cameras=1)
        store = MotionStore("store")
        assert len(store.keypoints(0, "h36m_17")) == 50 and store.meta["source"] == "synthetic"
    """, tmp_path)


def test_c3d_is_read_without_ezc3d(tmp_path, monkeypatch):
    """The reader is the workbook's own: it works where ezc3d is not installed."""
    pytest.importorskip("ezc3d")  # writes the file
    import numpy as np
    from small_files import write_c3d

    from humanbody.data.mocap import check_c3d_header, read_c3d
    path = write_c3d(tmp_path / "a.c3d", np.full((3, 2, 3), 100.0), ["A", "B"])
    monkeypatch.setitem(sys.modules, "ezc3d", None)
    assert check_c3d_header(path)["points"] == 2 and np.allclose(read_c3d(path).points, 0.1)
