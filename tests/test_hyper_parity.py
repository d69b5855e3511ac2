"""Every file of fixtures/hyper at its stated tolerance: 1e-5 absolute (totals of distillation 1e-4 relative), both gains of the weights."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from humanbody.distillation import Distiller
from humanbody.losses import PoseLoss
from humanbody.metrics import pa_mpjpe
from humanbody.models.dstformer import fill_recipe
from humanbody.models.hyperformer import HyperformerUnit
from humanbody.models.hypergraph import HypergraphLifter, MixSTE2, depth_maps
from humanbody.models.partitions import derive_partition, hop_distance, partition_of_labels, spatial_graph, uniform_graph
from humanbody.skeleton import get_skeleton

FIXTURES = Path(__file__).parent / "fixtures/hyper"
V2 = sorted(p.stem for p in FIXTURES.glob("v2_*.npz"))
OWN = ("joint_label", "hyper_matrix", "merge_weight")
SEEN = set()


def load(name):
    SEEN.add(name)
    return np.load(FIXTURES / f"{name}.npz")


def keys(name):
    SEEN.add(name)
    return list(json.loads((FIXTURES / f"{name}.json").read_text()).items())


def names(model):
    return [(k, list(v.shape)) for k, v in model.state_dict().items()]


def v2_model(d, layout=None):
    "The model of a fixture, its weights by the README's rules."
    flags = {k: bool(d[f]) for k, f in (("main", "j2e_main"), ("bias", "j2e_bias"), ("adjacency", "j2j_adjacency"))}
    m = HypergraphLifter(17, int(d["channels"]), int(d["depth"]), "h36m_17", partition=d["joint_label"].tolist(), layout=layout or str(d["layout"]),
                         relation_bias=str(d["graph_mode"]), false_edge=True, num_heads=int(d["heads"]), maxlen=int(d["frames"]), **flags)
    start = {k: v.clone() for k, v in m.state_dict().items()}
    large = float(d["gain"]) != np.float32(0.02)
    fill_recipe(m, d["gain"], lambda k: k.endswith(OWN))
    with torch.no_grad():
        for k, v in m.state_dict().items():
            if large and k.endswith(".alpha"): v += 1
            if large and k.endswith(".outer"): v += start[k]
            if k.endswith(".alpha") and not flags["adjacency"]: v.zero_()
    return m.eval()


def test_all_variants_are_there():
    assert len(V2) == 11


@pytest.mark.parametrize("name", V2)
def test_hypergraph_output(name):
    d = load(name)
    x = torch.from_numpy(d["x"])
    with torch.no_grad():
        y = v2_model(d)(x).numpy()
        other = None if "bias_only" in name else v2_model(d, {"joint": "reference", "reference": "joint"}[str(d["layout"])])(x).numpy()
    assert np.abs(y - d["y"]).max() < 1e-5
    if other is not None:  # the other layout is another model
        assert np.abs(other - d["y"]).max() > 1e-3


@pytest.mark.parametrize("layout", ["joint", "reference"])
def test_hypergraph_inside(layout):
    d = load(f"v2_part3_{layout}")
    m, x = v2_model(d), torch.from_numpy(d["x"])
    maps = depth_maps(m, x)
    block = m.STEblocks[0]
    edge = block.hyper_attn_blk.hyper_edge
    spread = (lambda t: t @ edge.pool(0)) if layout == "joint" else (lambda t: t)
    with torch.no_grad():
        tokens, rep = m.tokens(x), m(x, return_rep=True)
        first = block.common_attn_blk(m.Spatial_patch_to_embedding(x) + m.Spatial_pos_embed)
        got = dict(attn_spatial_0=maps[0].joints, attn_spatial_last=maps[-1].joints, attn_hyper_0=spread(maps[0].parts),
                   attn_hyper_last=spread(maps[-1].parts), attn_temporal_last=maps[-1].frames, spatial_tokens_0=tokens.spatial[0],
                   temporal_tokens_0=tokens.temporal[0], temporal_tokens_last=tokens.temporal[-1], hyperedge_feat_0=edge(first))
    assert np.abs(rep.numpy() - d["rep"]).max() < 1e-5
    for k, v in got.items():
        assert np.abs(v.flatten(0, 1).numpy() - d[k]).max() < 1e-5, k
    for m_ in maps:
        for a in (m_.joints, m_.parts, m_.frames):
            assert (a.sum(-1) - 1).abs().max() < 1e-5
    if layout == "joint":  # columns of joints of one part are equal in the fixture too
        labels = d["joint_label"]
        for part in range(labels.max() + 1):
            assert np.ptp(d["attn_hyper_0"][..., labels == part], axis=-1).max() < 1e-6


def test_names_of_all_models():
    for name, size in (("keys_v2_C32_d3_T9", (32, 3, 9)), ("keys_v2_C512_d8_T243", (512, 8, 243))):
        with torch.device("meta"):
            m = HypergraphLifter(17, *size[:2], "h36m_17", maxlen=size[2])
        assert names(m) == keys(name)
    with torch.device("meta"):
        assert names(MixSTE2(17, 32, 3, maxlen=9, dim_in=2)) == keys("keys_mixste2_C32_d3_T9")


def test_mixste():
    d = load("mixste2")
    m = fill_recipe(MixSTE2(17, int(d["channels"]), int(d["depth"]), int(d["heads"]), maxlen=int(d["frames"]), dim_in=2), d["gain"]).eval()
    with torch.no_grad():
        assert np.abs(m(torch.from_numpy(d["x"])).numpy() - d["y"]).max() < 1e-5


def test_mixste_losses():
    d = load("mixste_losses")
    p, t, sk = torch.from_numpy(d["pred"]), torch.from_numpy(d["gt"]), get_skeleton("h36m_17")
    total, terms = PoseLoss(sk, dict(wmpjpe=1.0, tcl=0.5, velocity=2.0, mpjpe=1e-30, n_mpjpe=1e-30))(p, t)
    for k in ("wmpjpe", "tcl", "velocity", "mpjpe", "n_mpjpe"):
        np.testing.assert_allclose(float(terms[k]), d[k], rtol=1e-5)
    np.testing.assert_allclose(float(total), d["total"], rtol=1e-5)
    np.testing.assert_allclose(pa_mpjpe(p, t).mean(-1).numpy() / 1000, d["p_mpjpe_per_seq"], rtol=1e-5)


@pytest.mark.parametrize("name", ["kd", "kd_equal_width"])
def test_distillation(name):
    d = load(name)
    pairs = list(zip(d["ids_s"].tolist(), d["ids_t"].tolist()))
    depths = int(d["depth_s"]), int(d["depth_t"])
    m = Distiller(d["last_s"].shape[-1], d["last_t"].shape[-1], pairs, depths, int(d["tds"]), float(d["alpha"]))
    fill_recipe(m, d["gain"])
    sides = []
    for side, n, ids in (("s", depths[0], d["ids_s"]), ("t", depths[1], d["ids_t"])):
        streams = [[None] * n, [None] * n]
        for tokens, stream in zip(streams, ("spatial", "temporal")):
            for i, k in enumerate(ids):
                if f"{stream}_{side}{i}" in d: tokens[k] = torch.from_numpy(d[f"{stream}_{side}{i}"])[None]
        streams[1][-1] = torch.from_numpy(d[f"last_{side}"])[None]
        sides.append(streams)
    with torch.no_grad(): terms = m(*sides)
    for k, want in (("spatial", "spatial_sum"), ("temporal", "temporal_sum"), ("generation", "generation")):
        np.testing.assert_allclose(float(terms[k]), d[want], rtol=1e-5)
    np.testing.assert_allclose(m.alpha * float(sum(terms.values())), d["total"], rtol=1e-4)
    np.testing.assert_allclose(m.alpha * float(terms["spatial"] + terms["temporal"]), d["total_without_generation"], rtol=1e-4)
    if name == "kd": assert names(m) == keys("keys_kd_16_32")


@pytest.mark.parametrize("name", ["hyperformer_unit_ntu25", "hyperformer_unit_ucla20_stride2"])
def test_hyperformer_unit(name):
    d = load(name)
    m = HyperformerUnit(36, int(d["heads"]), d["joint_label"].tolist(), d["hops"], int(d["stride"])).eval()
    outer = m.vit1.attn.outer.detach().clone()
    fill_recipe(m, d["gain"])
    x = torch.from_numpy(d["x"])
    with torch.no_grad():
        m.vit1.attn.alpha.add_(1)
        m.vit1.attn.outer.add_(outer)
        got = dict(attn=m.vit1.attn.weights(m.vit1.normed(x), m.vit1.parts(x)), vit_out=m.vit1(x), unit_out=m(x))
    for k, v in got.items():
        assert np.abs(v.numpy() - d[k]).max() < 1e-5, k
    if "ntu" in name:
        assert names(m) == keys("keys_hyperformer_unit_C36_h6")
        parents = [int(np.flatnonzero(c)[0]) if c.any() else -1 for c in d["A"][2] > 0]
        np.testing.assert_allclose(spatial_graph(parents), d["A"], atol=1e-6)


def test_graphs():
    d, sk = load("graphs"), get_skeleton("h36m_17")
    assert list(sk.parents) == d["parents17"].tolist()
    np.testing.assert_allclose(uniform_graph(sk.parents), d["uniform_clean"], atol=1e-12)
    np.testing.assert_allclose(uniform_graph(sk.parents, True), d["uniform_wrap"], atol=1e-12)
    np.testing.assert_allclose(spatial_graph(sk.parents, True), d["foa"], atol=1e-12)
    assert (hop_distance(sk.parents) == d["hops_h36m17_clean"]).all() and (hop_distance(sk.parents, True) == d["hops_h36m17_wrap"]).all()
    for size, name in (("25", "ntu"), ("20", "ucla")):
        parents = [int(np.flatnonzero(c)[0]) if c.any() else -1 for c in d[f"{name}_spatial"][2] > 0]
        np.testing.assert_allclose(spatial_graph(parents), d[f"{name}_spatial"], atol=1e-12)
        assert (hop_distance(parents) == d[f"hops_{name}{size}"]).all()
    for key in [k.removeprefix("label_") for k in d if k.startswith("label_")]:
        p = partition_of_labels(d[f"label_{key}"])
        assert (p.incidence == d[f"incidence_{key}"]).all()
        np.testing.assert_allclose(p.mean_operator, d[f"mean_operator_{key}"], atol=1e-6)
    for kind, key in (("part1", "body5_inferred"), ("part2", "fine_inferred"), ("part3", "part3")):
        assert derive_partition(sk, kind).labels == tuple(d[f"label_h36m_{key}"])


def test_every_file_was_used():
    if len(SEEN) < 5: pytest.skip("runs after the others of this file")
    assert SEEN == {p.stem for p in FIXTURES.iterdir() if p.suffix in (".npz", ".json")}
