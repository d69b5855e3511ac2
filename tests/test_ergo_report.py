"""The ergonomic report: every section is there, no address outside the file, numbers equal to the scores, and what a file lacks costs one sentence."""
from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from humanbody.ergo.trial_scores import score_sequence  # noqa: E402
from humanbody.ergo_report import write_ergo_report  # noqa: E402
from humanbody.ergo_trial import Facts, assess  # noqa: E402
from humanbody.runs import start_run  # noqa: E402
from humanbody.trial_files import ReadOptions, open_trial, synthetic_trial  # noqa: E402

SECTIONS = ("Worst moments", "Angles over time", "Scores", "Exposure", "Lifting (NIOSH equation)", "What was measured, given and assumed", "Measured inputs", "Beside published ranges",
            "Other standards (share of time)", "Data quality", "Appendix: conventions and origin")


class Page(HTMLParser):
    "Check that tags close in order; collect headings, addresses and pictures."
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.outside, self.pictures = [], [], 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        self.pictures += tag == "img"
        self.outside += [v for k, v in attrs if k in ("src", "href") and not v.startswith(("#", "data:"))]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def written(trial, facts: Facts, folder: Path, model="auto") -> tuple:
    "Write a report; return the page without its pictures, its numbers and the assessment."
    a = assess(trial, facts, model, draws=40)
    path = write_ergo_report(a, start_run("test", {}, folder))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.outside and page.pictures >= 2
    bare = re.sub(r'src="data:[^"]*"', "", text)
    assert "http" not in bare
    for title in SECTIONS:
        section = re.search(rf"<section[^>]*><h2>{re.escape(title)}</h2>(.*?)</section>", bare, re.S)
        assert section and len(re.sub(r"<[^>]*>|\s", "", section[1])) > 20, title
    words = re.sub(r"<style>.*?</style>", "", bare, flags=re.S)
    assert not re.search(r"\bnan\b|<td[^>]*>\s*</td><td[^>]*>\s*</td><td[^>]*>\s*</td>", re.sub(r"<(?!/?td)[^>]*>", " ", words)), "an undefined number stands on the page"
    return bare, json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), a


@pytest.mark.parametrize("skeleton", ["h36m_17", "rtm_24", "vehs_66"])
def test_report_of_every_joint_set(skeleton: str, tmp_path: Path) -> None:
    "17, 24 and 66 points give a whole report with the numbers of the scores, or a range where points are missing."
    trial = open_trial(synthetic_trial(skeleton=skeleton))
    bare, numbers, a = written(trial, Facts(load_kg=8.0, lifts_per_min=2.0), tmp_path)
    want = score_sequence(trial.seq, load_kg=8.0)
    for row in numbers["scores"]:
        if row["side"] == "worst":
            top = np.nanmax(want[row["method"]].worst) if np.isfinite(want[row["method"]].worst).any() else None
            assert row["highest"] == top
            if top is not None:
                assert re.search(rf"<td[^>]*>worse side</td>.*?<td[^>]*>{top:g}</td>", bare)
    assert a.moments and (np.isfinite(a.scores[a.lead].worst).any() or a.ranges)


def test_ranges_hold_the_scores_of_the_full_set() -> None:
    "What 17 points leave open contains the score that 66 points give with the same assumptions of the rest."
    full = open_trial(synthetic_trial())
    x = full.seq.joints.copy()
    x[:, full.seq.skeleton.indices(["HDTP", "HEAD", "REAR", "LEAR"])] = np.nan
    given = dict(neck_twisted=0, neck_side_bent=0, neck_twisted_or_bent=0)
    whole, part = (assess(replace(full, seq=replace(full.seq, joints=j)), Facts(given=given)) for j in (full.seq.joints, x))
    for m in ("rula", "reba"):
        truth, r = whole.scores[m].worst, part.ranges[m]
        good = np.isfinite(truth)
        assert not np.isfinite(part.scores[m].worst).any() and ((r.low <= truth) & (truth <= r.high))[good].all()
        assert (r.high > r.low).any() and set(r.unknown["right"]) >= {"neck_flexion"}


def test_what_is_missing_costs_one_sentence(tmp_path: Path) -> None:
    "No up direction, no scale, half of the frames empty: the report goes on and says so."
    seq = synthetic_trial()
    tilted = seq.joints[:40] @ np.array([[1.0, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    tilted[::2] = np.nan
    bent = replace(seq[:40], joints=tilted, up=None, info={}, method="estimate")
    trial = open_trial(bent, cutoff_hz=0, max_gap_s=0)
    bare, numbers, _ = written(trial, Facts(load_kg=8.0, lifts_per_min=2.0), tmp_path)
    assert trial.seq.up is not None or "up direction is not known" in bare
    assert "up" in numbers["problems"]["lifting"] or "metres" in numbers["problems"]["lifting"] or "scale" in numbers["problems"]["lifting"]
    assert "error model" in numbers["problems"]["error bars"]
    nothing = written(open_trial(seq), Facts(), tmp_path / "b")[1]
    assert "mass of the load was not given" in nothing["problems"]["lifting"]


def test_error_bars_of_a_lifter(tmp_path: Path) -> None:
    "A sequence of a method with a shipped error model gets probabilities and names the joint that the doubt comes from."
    from humanbody.ergo.error_model import list_error_models
    name = next((n for n in list_error_models() if n.endswith("vehs_66")), None)
    if name is None:
        pytest.skip("no error model of a 66-point lifter is shipped")
    trial = open_trial(replace(synthetic_trial(), method=name))
    bare, numbers, a = written(trial, Facts(load_kg=8.0), tmp_path)
    assert re.search(r"uncertainty comes from (the|several joints, most from the) \w+", bare) and "90 % interval" in bare and numbers["drivers"]["reba"][0]["share"] > 0
    low, high = a.draws["reba"].interval()
    t = a.moments[0]
    assert f"({low[t]:.0f} to {high[t]:.0f}; level" in bare


def test_unknown_file_and_rate() -> None:
    "Files of another kind and missing files are refused in a sentence."
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_trial("no.c3d", ReadOptions())
    with pytest.raises(ValueError, match="expected .npz, .c3d"):
        open_trial(__file__)
