"""Two gloo processes against one: the same losses, the same weights within 1e-5."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from humanbody.config import load_config, save_config
from humanbody.training import fit, launch
from training_tools import tiny


@pytest.mark.parametrize("accumulate", [2])
def test_two_gloo_processes_agree_with_one(tmp_path, accumulate):
    """Odd batches, accumulation, augmentation: the gradient is that of the whole batch."""
    torch.set_num_threads(1)
    kw = dict(epochs=2, batch_size=13, accumulate=accumulate, clip_grad=1.0)
    one = tiny(tmp_path, "one", **kw)
    r = fit(one, progress=False)
    save_config(tiny(tmp_path, "two", **kw), tmp_path / "two.yaml")
    record = launch(tmp_path / "two.yaml", 2)
    assert record["processes"] == 2 and record["epochs_done"] == 2
    two = [json.loads(line) for line in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    for a, b in zip(r.history, two, strict=True):
        for part in ("train", "val"):
            assert a[part].keys() == b[part].keys()
            for k in a[part]: np.testing.assert_allclose(b[part][k], a[part][k], rtol=1e-5, err_msg=k)
    a, b = (load_file(tmp_path / n / "final.safetensors") for n in ("one", "two"))
    for k in a: torch.testing.assert_close(b[k], a[k], rtol=0, atol=1e-5)
    # and a run started by two processes goes on with one, to the same result
    again = fit(load_config(one, out=str(tmp_path / "two"), epochs=3, resume="latest"), progress=False)
    longer = fit(load_config(one, epochs=3, resume="latest"), progress=False)
    np.testing.assert_allclose(again.history[-1]["train"]["total"], longer.history[-1]["train"]["total"], rtol=1e-4)
    assert Path(again.out / "best.safetensors").exists()
