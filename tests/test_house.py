"""The checks of `make check`, and that each of them can fail."""
import json

import check_house as house
import pytest


@pytest.mark.parametrize("check", house.CHECKS, ids=lambda c: c.__name__)
def test_house(check):
    assert check() == []


def notebook(code, number="07_x", flags="#| export\n"):
    cell = dict(cell_type="code", id="a", metadata={}, source=flags + code, outputs=[])
    first = dict(cell_type="code", id="b", metadata={}, source=f"#| default_exp {number[3:]}", outputs=[])
    return dict(cells=[first, cell], metadata=dict(kernelspec=dict(name="python3")), nbformat=4, nbformat_minor=5)


@pytest.mark.parametrize("code,check,text", [
    ("n = 17", house.check_joint_literals, "literal 17"),
    ("from humanbody.later import f", house.check_imports, "imports humanbody.later"),
])
def test_checks_can_fail(tmp_path, monkeypatch, code, check, text):
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs/07_x.ipynb").write_text(json.dumps(notebook(code)))
    (tmp_path / "nbs/08_later.ipynb").write_text(json.dumps(notebook("x = 1", "08_later")))
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(house, "library_notebooks", lambda root=tmp_path: sorted((tmp_path / "nbs").glob("*.ipynb")))
    problems = check()
    assert len(problems) == 1 and text in problems[0]
