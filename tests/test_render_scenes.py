"""Synthetic image sets: the same bytes on one and two processes, and pictures that do not depend on how many follow."""
from __future__ import annotations

from pathlib import Path

from humanbody.data.image_scene_store import make_image_store
from humanbody.data.image_scenes import SceneOptions

OPTIONS = SceneOptions(size_px=48, oversample=1, per_subject=2)


def files(folder: Path) -> dict[str, bytes]:
    "Return the content of every picture, mask and part file by its name."
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix in (".jpg", ".png")}


def test_processes_agree(tmp_path: Path) -> None:
    "Two spawned workers write what one writes, and a longer set begins like a shorter one."
    one = make_image_store(tmp_path / "one", 4, seed=5, options=OPTIONS)
    two = make_image_store(tmp_path / "two", 4, seed=5, options=OPTIONS, workers=2)
    make_image_store(tmp_path / "few", 3, seed=5, options=OPTIONS)
    assert one.fingerprint() == two.fingerprint()
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert len(files(tmp_path / "few")) == 9 and files(tmp_path / "few").items() <= files(tmp_path / "one").items()
