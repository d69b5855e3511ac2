"""The parity fixtures' random SMPL model (tests/fixtures/lifting/README.md)."""
import tempfile
from pathlib import Path

import numpy as np

from humanbody.body import Regressor, load_body

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def arrays(seed, V=6890):
    "Return SMPL arrays, regressors by name, and mean pose and shape."
    r = np.random.default_rng(seed)

    def regressor(rows, n):
        out = np.zeros((rows, V))
        for row in out:
            i = r.choice(V, n, replace=False)
            w = r.uniform(0.1, 1, n)
            row[i] = w / w.sum()
        return out

    a = dict(v_template=r.standard_normal((V, 3)) * 0.3, shapedirs=r.standard_normal((V, 3, 10)) * 0.01,
             posedirs=r.standard_normal((V, 3, 207)) * 0.001, J_regressor=regressor(24, 30))
    j, w = r.integers(0, 24, (V, 4)), r.uniform(0.1, 1, (V, 4))
    a["weights"] = np.zeros((V, 24))
    for c in range(4):
        np.add.at(a["weights"], (np.arange(V), j[:, c]), w[:, c])
    a["weights"] /= a["weights"].sum(1, keepdims=True)
    a["f"] = r.integers(0, V, (13776, 3))
    a["kintree_table"] = np.stack([PARENTS, np.arange(24)])
    regs = dict(h36m_17=regressor(17, 20), extra=regressor(9, 10), vehs_66=regressor(66, 3), rtm_37=regressor(37, 3))
    pose = (np.tile([1, 0, 0, 1, 0, 0], 24) + r.standard_normal(144) * 0.05).astype(np.float32)
    return a, regs, pose, (r.standard_normal(10) * 0.1).astype(np.float32)


def body_and_regressor(seed, skeleton="h36m_17"):
    "Return the synthetic body, one of its regressors, and mean pose and shape."
    a, regs, pose, shape = arrays(seed)
    with tempfile.TemporaryDirectory() as d:
        np.savez(Path(d) / "synthetic.npz", **a)
        body = load_body(Path(d) / "synthetic.npz")
    m = regs[skeleton]
    rows, cols = m.nonzero()
    return body, Regressor(skeleton, body.topology_id, m.shape[1], rows, cols, m[rows, cols]), pose, shape
