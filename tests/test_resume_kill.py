"""SIGKILL at random moments, resume until finished: the weights equal those of the uninterrupted run, byte for byte."""
import random
import signal
import time
from pathlib import Path

import torch

from humanbody.runstate import load_state
from humanbody.training import fit
from training_tools import error_text, exit_code, start_fit, tiny, weights

KILLS = 24


def run_once(config, delay):
    """Run (resuming if there is a checkpoint); kill after `delay` seconds, if given. True when it finished."""
    have = (Path(config.out) / "last.pt").exists()
    child = start_fit(type(config)(**{**vars(config), "resume": "latest" if have else "no"}))
    if delay is not None:
        child.join(delay)
        child.kill()
    code = exit_code(child)
    assert code in (0, -signal.SIGKILL), "the run failed by itself:\n" + error_text(config)
    return code == 0


def test_killed_runs_end_with_the_same_bytes(tmp_path):
    """Kills fall anywhere: set-up, steps, validation, while checkpoints are being written."""
    rng, kills, runs = random.Random(7), 0, 0
    torch.set_num_threads(1)
    whole = tiny(tmp_path, "whole")
    fit(whole, progress=False)
    assert exit_code(start_fit(tiny(tmp_path, "first"))) == 0  # starts the server process
    start = time.monotonic()
    assert exit_code(start_fit(tiny(tmp_path, "timed"))) == 0
    length = time.monotonic() - start
    positions = set()
    while kills < KILLS:
        config = tiny(tmp_path, f"killed{runs}", checkpoint_every=1 + runs % 3)
        here = 0
        while not run_once(config, rng.uniform(0.05, 0.8) * length if here < 8 else None):
            here += 1
            last = Path(config.out) / "last.pt"
            positions.add(_position(last))
        kills, runs = kills + here, runs + 1
        for name in ("final.safetensors", "best.safetensors"):
            assert weights(config, name) == weights(whole, name), f"{name} differs after {here} kills"
        assert not list(Path(config.out).glob(".*.tmp")), "temporary files were left behind"
    assert runs >= 2 and len(positions) >= 5, f"kills at too few positions: {positions}"


def _position(last):
    if not last.exists(): return None
    p = load_state(last)["progress"]
    return p["epoch"], p["step"]
