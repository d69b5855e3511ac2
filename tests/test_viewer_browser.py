"""view_mesh.ipynb in a real JupyterLab in a real browser: all cells run, sliders move the mesh on the screen, no console errors, nothing asked for outside."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(__file__).parent / "_out"
CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
DONE = "view_mesh: all cells done"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium): the viewer was not tried in a browser")


def notebook_copy(folder: Path) -> None:
    "Copy view_mesh.ipynb with fewer frames and without the HTML file, to keep the test short."
    nb = json.loads((ROOT / "nbs/runs/view_mesh.ipynb").read_text(encoding="utf-8"))
    cell = next(c for c in nb["cells"] if "parameters" in c["metadata"].get("tags", []))
    cell["source"] = ["".join(cell["source"]) + "\nframes, step, html_file = 10, 10, False"]
    (folder / "view_mesh.ipynb").write_text(json.dumps(nb), encoding="utf-8")


def private_environment(folder: Path) -> dict[str, str]:
    "Return an environment in which JupyterLab keeps its settings in a folder of its own."
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR"):
        env[key] = str(folder / key.lower())
        Path(env[key]).mkdir()
    settings = Path(env["JUPYTERLAB_SETTINGS_DIR"])
    for name, values in (("apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}), ("notebook-extension/tracker", {"windowingMode": "none"})):
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return env


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    "Start JupyterLab on a copy of the notebook; give its address."
    root = tmp_path / "nbs"
    root.mkdir()
    notebook_copy(root)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=", "--allow-root",
                               "--expose-app-in-browser", f"--ServerApp.root_dir={root}"], env=private_environment(tmp_path), stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if server.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        assert server.poll() is None, (tmp_path / "lab.log").read_text()[-2000:]
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
        log.close()


def wait_for_change(page, element, before: bytes, seconds: float = 30.0) -> bool:
    "Wait until the picture of an element differs from an earlier one."
    for _ in range(int(seconds / 0.5)):
        page.wait_for_timeout(500)
        if element.screenshot() != before:
            return True
    return False


def still(page, element) -> bytes:
    "Return the picture of an element once two in a row are equal."
    last = b""
    for _ in range(60):
        shot = element.screenshot()
        if shot == last:
            return shot
        last = shot
        page.wait_for_timeout(700)
    raise AssertionError("the picture never stood still")


def run_all(page, address: str) -> None:
    "Open the notebook and run all its cells."
    page.goto(f"{address}/lab/tree/view_mesh.ipynb", timeout=120_000)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=120_000)
    page.wait_for_timeout(1500)
    page.locator(".jp-Notebook .jp-CodeCell").first.click()
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.wait_for_function(f"""() => [...document.querySelectorAll('.jp-OutputArea-output')].some(o => o.innerText.includes({json.dumps(DONE)}))
                               || document.querySelector('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')""", timeout=300_000)
    errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')
    assert errors.count() == 0, errors.first.inner_text()[-1500:]


def test_sliders_move_the_mesh(lab: str) -> None:
    "The frame slider moves the recording, a posture slider bends the body, the read-out follows."
    from playwright.sync_api import sync_playwright
    errors, outside = [], []
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport=dict(width=1500, height=1000)).new_page()
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:")) else None)
        run_all(page, lab)
        outputs = page.locator(".jp-OutputArea-output:has(canvas)")
        try:
            for number, (label, keys) in enumerate((("frame", 6), ("left elbow flexion", 40))):
                output = outputs.nth(number)
                output.scroll_into_view_if_needed(timeout=60_000)
                canvas = output.locator("canvas").first
                handle = output.locator(f'.widget-hslider:has(label:text-is("{label}")) .noUi-handle').first
                before, table = still(page, canvas), output.locator("table").first.inner_text()
                handle.focus()
                for _ in range(keys):
                    page.keyboard.press("ArrowRight")
                assert wait_for_change(page, canvas, before), f"the mesh did not move with the slider {label!r}"
                page.wait_for_timeout(2500)
                assert output.locator("table").first.inner_text() != table, f"the angles did not follow the slider {label!r}"
                output.screenshot(path=OUT / f"viewer_{label.replace(' ', '_')}.png")
        finally:
            page.screenshot(path=OUT / "viewer_page.png")
            browser.close()
    assert outside == [], f"asked for {outside[:3]}"
    assert errors == [], errors[:3]
