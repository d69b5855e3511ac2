"""A report opens in a browser with the network off: nothing is asked for but the file itself, and the plot is drawn."""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
OUT = Path(__file__).parent / "_out"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium): the report was not opened in a browser")


def make_report(folder: Path) -> Path:
    "Write a report with every kind of block: text, table, picture, and an animated body with its camera view."
    import matplotlib
    matplotlib.use("Agg")
    import numpy as np
    from humanbody.camera import look_at
    from humanbody.body import load_body
    import torch
    from humanbody.plots import animate_comparison, contact_sheet
    from humanbody.report import Interactive, Picture, Section, Table, Text, write_report
    from humanbody.runs import start_run
    from humanbody.sequence import Keypoints2D, PoseSequence
    from humanbody.skeleton import get_skeleton
    run, smpl = start_run("report_test", {}, folder), get_skeleton("smpl_24")
    pose = np.zeros((8, smpl.num_joints, 3))
    pose[:, smpl.idx("left_elbow"), 1] = -np.linspace(0, 2, 8)
    joints = load_body("free").joints(torch.zeros(8, 10), torch.as_tensor(pose, dtype=torch.float32), torch.zeros(8, 3), skeleton="vehs_66").numpy()
    camera = look_at((0, 1.2, 4), (0, 0, 0), size=(1000, 1000))
    seq = PoseSequence(camera.world_to_camera(joints), "vehs_66", 10.0, "camera", camera.up_cam((0, 1, 0)), method="truth")
    kp = Keypoints2D(camera.project_world(joints), "vehs_66", (1000, 1000), 10.0)
    figure = run.save_figure(contact_sheet({"truth": seq}, 3), "sheet")
    moving = animate_comparison({"truth": seq, "6D": seq}, kp, 8, "try")
    return write_report(run, "A report", [Section("Words", [Text("One sentence."), Table([{"angle": "elbow", "MAE [deg]": 1.0}], "errors")]),
                                          Section("Motion", [Interactive(moving, "moves"), Picture(figure, "frames")])], {"samples": "n = 8 frames"})


def open_offline(report: Path, screenshot: Path) -> dict:
    "Open a report with the network blocked; return requests, console errors, drawn canvases and the frame shown after pulling the slider."
    from playwright.sync_api import sync_playwright
    asked, errors = [], []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport=dict(width=1280, height=900))
        context.set_offline(True)
        page = context.new_page()
        page.on("request", lambda r: asked.append(r.url))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(report.as_uri(), timeout=120_000, wait_until="domcontentloaded")
        page.wait_for_selector(".js-plotly-plot .gl-container canvas", timeout=120_000)
        page.wait_for_timeout(1500)
        canvases = page.locator(".js-plotly-plot canvas").count()
        plot = page.locator(".js-plotly-plot").first
        plot.scroll_into_view_if_needed()
        before = plot.screenshot()
        page.evaluate("""async () => { const g = document.querySelector('.js-plotly-plot'), f = g._transitionData._frames;
                         await Plotly.animate(g, [f[f.length - 1].name], {mode: 'immediate', frame: {duration: 0, redraw: true}, transition: {duration: 0}}) }""")
        page.wait_for_timeout(1200)
        moved = plot.screenshot() != before
        broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        screenshot.parent.mkdir(exist_ok=True)
        page.screenshot(path=screenshot, full_page=True)
        browser.close()
    outside = [u for u in asked if not u.startswith(("data:", "blob:")) and u != report.as_uri()]
    return dict(outside=outside, errors=errors, canvases=canvases, moved=moved, broken=broken)


def test_report_opens_with_the_network_off(tmp_path: Path) -> None:
    "The report alone, copied away from its folder, asks for nothing and draws its animation."
    alone = tmp_path / "elsewhere" / "copied report.html"
    alone.parent.mkdir()
    shutil.copy(make_report(tmp_path / "run"), alone)
    found = open_offline(alone, OUT / "report.png")
    assert found["outside"] == [], f"the report asked for {found['outside'][:3]}"
    assert found["errors"] == [], found["errors"][:3]
    assert found["canvases"] > 0 and found["broken"] == 0
    assert found["moved"], "the animation's last frame looks like its first"


def test_demo_report_opens_with_the_network_off() -> None:
    "The report of `make demo`, when it was made, does the same."
    report = Path(__file__).resolve().parent.parent / "figures/demo/report.html"
    if not report.is_file():
        pytest.skip("figures/demo/report.html is not there: `make demo` was not run")
    found = open_offline(report, OUT / "demo_report.png")
    assert found["outside"] == [] and found["errors"] == [] and found["broken"] == 0, found
    assert found["canvases"] > 0 and found["moved"]
