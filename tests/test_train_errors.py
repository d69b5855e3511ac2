"""What must stop a run, and what it must leave behind."""
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from humanbody.config import load_config
from humanbody.data.store import MotionStore
from humanbody.runstate import load_state
from humanbody.tasks import LiftingTask
from humanbody.training import fit, main
from training_tools import Hooked, error_text, exit_code, full_disk, interrupt, make_store, start_fit, tiny, weights


def test_unknown_key_names_the_near_one(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("learning_rat: 1\nbatchsize: 3\n")
    assert main([str(tmp_path / "c.yaml")]) == 1
    assert "did you mean batch_size" in capsys.readouterr().err


def test_an_epoch_without_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="views are shorter than one clip of 81 frames"):
        fit(tiny(tmp_path, "a", clip_length=81), progress=False)
    task = LiftingTask(tiny(tmp_path, "a"))
    task.steps_per_epoch = 0
    with pytest.raises(ValueError, match="nothing would be trained"): fit(tiny(tmp_path, "a"), task, progress=False)
    assert not (tmp_path / "a").exists()


def test_nan_names_view_motion_and_frame(tmp_path):
    found = []

    def poison(b):
        b["x"][3, 4, 5, 0] = float("nan")
        found.append(int(b["index"][3]))

    config = tiny(tmp_path, "a")
    task = Hooked(config, (1, 2), poison)
    with pytest.raises(FloatingPointError) as e: fit(config, task, progress=False)
    view, start, _ = task.clips[found[0]]
    assert f"view {view} (motion {task.store.views[view].motion}) frames {start}..{start + 8}" in str(e.value)
    assert f"input of frame {start + 4}" in str(e.value) and "epoch 1, step 2" in str(e.value)
    state = load_state(tmp_path / "a/last.pt")
    assert state["progress"]["epoch"] == 1 and all(torch.isfinite(v).all() for v in state["model"].values())


def test_nan_truth_in_the_store_is_named(tmp_path):
    make_store(tmp_path / "store")
    x = np.lib.format.open_memmap(tmp_path / "store/joints__h36m_17.npy", mode="r+")
    x[33, 2] = np.nan
    x.flush()
    with pytest.raises(FloatingPointError, match=r"motion m0.*truth of frame 33, joint"):
        fit(tiny(tmp_path, "a", flip=False), progress=False)


def test_a_folder_with_a_run_is_not_resumed_in_silence(tmp_path):
    config = tiny(tmp_path, "a", epochs=1)
    fit(config, progress=False)
    before = weights(config)
    with pytest.raises(FileExistsError, match="resume=latest"): fit(config, progress=False)
    with pytest.raises(ValueError, match="lr: 0.001 -> 0.5"):
        fit(load_config(config, resume="latest", lr=0.5, epochs=2), progress=False)
    with pytest.raises(FileNotFoundError, match="no checkpoint to resume from"):
        fit(tiny(tmp_path, "b", resume="latest"), progress=False)
    assert weights(config) == before


def test_checkpoint_of_another_skeleton_is_refused(tmp_path):
    fit(tiny(tmp_path, "a", epochs=1), progress=False)
    make_store(tmp_path / "store24", "rtm_24")
    other = dict(data=str(tmp_path / "store24"), skeleton="rtm_24", epochs=1)
    with pytest.raises(ValueError, match="skeleton h36m_17"):
        fit(tiny(tmp_path, "b", resume=str(tmp_path / "a/last.pt"), **other), progress=False)
    with pytest.raises(ValueError, match="h36m_17"):
        fit(tiny(tmp_path, "c", weights=str(tmp_path / "a/best.safetensors"), **other), progress=False)


def test_other_data_is_refused_on_resume(tmp_path):
    fit(tiny(tmp_path, "a", epochs=1), progress=False)
    data = make_store(tmp_path / "other", seed=5)
    with pytest.raises(ValueError, match="trained on data"):
        fit(tiny(tmp_path, "a", epochs=2, resume="latest", data=data), progress=False)


def test_sigint_saves_and_ends_cleanly(tmp_path):
    whole, config = tiny(tmp_path, "whole"), tiny(tmp_path, "a")
    fit(whole, progress=False)
    assert exit_code(start_fit(config, (1, 3), interrupt)) == 130
    p = load_state(tmp_path / "a/last.pt")["progress"]
    assert (p["epoch"], p["step"]) == (1, 4)
    assert fit(load_config(config, resume="latest"), progress=False).stopped == ""
    assert weights(config) == weights(whole)


def test_the_command_ends_with_130_on_sigterm(tmp_path):
    from humanbody.config import save_config
    save_config(tiny(tmp_path, "a", epochs=100000), tmp_path / "c.yaml")
    p = subprocess.Popen([sys.executable, "-m", "humanbody.training", str(tmp_path / "c.yaml")],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path / "a/metrics.jsonl").exists() and (tmp_path / "a/metrics.jsonl").stat().st_size: break
        time.sleep(0.1)
    p.terminate()
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and "stopped by SIGTERM" in out, err
    assert "epoch 1/100000" in err and load_state(tmp_path / "a/last.pt")


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    whole, config = tiny(tmp_path, "whole"), tiny(tmp_path, "a")
    fit(whole, progress=False)
    assert exit_code(start_fit(config, (2, 4), full_disk)) == 1
    assert "could not write" in error_text(config)
    assert load_state(tmp_path / "a/last.pt")["progress"]["epoch"] == 2
    assert not list(Path(config.out).glob(".*.tmp"))
    fit(load_config(config, resume="latest"), progress=False)
    assert weights(config) == weights(whole)


def test_a_store_with_a_subject_in_two_splits_does_not_train(tmp_path):
    import json
    p = Path(make_store(tmp_path / "store")) / "index.json"
    d = json.loads(p.read_text())
    d["motions"][1]["subject"], d["motions"][2]["subject"] = "S1", "S1"
    p.write_text(json.dumps(d))
    with pytest.raises(ValueError, match="two splits"): MotionStore(tmp_path / "store")
    with pytest.raises(ValueError, match="two splits"): fit(tiny(tmp_path, "a"), progress=False)
