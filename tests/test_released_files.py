"""Files in every documented layout of a released checkpoint, made from small models by tables written here: the report, and the same numbers out."""
import os
import pickle
import warnings

import pytest
import torch

from humanbody.models.action_head import ActionNet, action_network
from humanbody.models.checkpoints import load_released, load_weights
from humanbody.models.dstformer import DSTformer, fill_recipe
from humanbody.models.hypergraph import MixSTE2
from humanbody.models.mesh_lifter import MeshRegressor
from humanbody.models.model_table import mesh_network
from humanbody.models.motionagformer import MotionAGFormer
from humanbody.models.released import open_released
from humanbody.skeleton import get_skeleton
from humanbody.training import fit
from synthetic_smpl import body_and_regressor
from training_tools import tiny

BASE = dict(dim_feat=32, dim_rep=24, depth=2, num_heads=8, maxlen=9)
LITE = dict(BASE, dim_feat=16, mlp_ratio=4)
H36M, RTM = get_skeleton("h36m_17"), get_skeleton("rtm_24")
SMPL = dict(betas=(64, 10), global_orient=(64, 3), body_pose=(64, 69), shapedirs=(5, 3, 10), faces_tensor=(4, 3), v_template=(5, 3), J_regressor=(24, 5),
            posedirs=(207, 15), parents=(24,), lbs_weights=(5, 24), J_regressor_extra=(9, 5), J_regressor_h36m=(17, 5))


def filled(model, seed=0):
    "Every tensor of a model drawn anew, in evaluation mode; small enough that nothing saturates, counts and variances positive."
    g = torch.Generator().manual_seed(seed)
    state = {k: torch.full_like(v, 7) if not v.is_floating_point() else 0.1 * torch.randn(v.shape, generator=g) for k, v in model.state_dict().items()}
    state |= {k: v.abs() + 0.5 for k, v in state.items() if k.endswith("running_var")}
    model.load_state_dict(state)
    return model.eval()


def mmpose_name(name):
    "The name a tensor of MotionBERT has in mmpose: a lifter of a backbone and a head."
    whole = {"pos_embed": "backbone.spat_embed", "temp_embed": "backbone.temp_embed", "pre_logits.fc": "head.pre_logits.fc", "head": "head.fc"}
    if name in whole: return whole[name]
    stem, _, end = name.rpartition(".")
    if stem in whole: return f"{whole[stem]}.{end}"
    steps = {"fc1": "0", "fc2": "2"}
    words = ["attn_regress" if w == "ts_attn" else steps.get(w, w) for w in name.split(".")]
    return ".".join(["backbone", *words])


def agformer_names(layers):
    "Names of a MotionAGFormer file, from the layout of its classes."
    pair = lambda *stems: [f"{s}.{w}" for s in stems for w in ("weight", "bias")]
    rest = ["layer_scale_1", "layer_scale_2", *pair("norm1", "norm2", "mlp.fc1", "mlp.fc2")]
    attention = [*rest, "mixer.qkv.weight", *pair("mixer.proj")]
    graph = [*rest, *pair("mixer.U", "mixer.V", "mixer.batch_norm"), *(f"mixer.batch_norm.{w}" for w in ("running_mean", "running_var", "num_batches_tracked"))]
    stages = dict(att_spatial=attention, att_temporal=attention, graph_spatial=graph, graph_temporal=graph)
    layer = [f"{s}.{k}" for s, names in stages.items() for k in names] + pair("fusion")
    return {"pos_embed", *pair("joints_embed", "norm", "rep_logit.fc", "head"), *(f"layers.{i}.{k}" for i in range(layers) for k in layer)}


def smpl_buffers(more=(), shapes=10):
    "A body layer as a mesh file embeds it."
    sizes = SMPL | dict(shapedirs=(5, 3, shapes)) | dict(more)
    return {f"head.smpl.{k}": torch.ones(s) for k, s in sizes.items()} | {"head.smpl.vertex_joint_selector.extra_joints_idxs": torch.arange(21)}


def write(path, state, layout):
    "A file as its training script writes it."
    wrap = {f"module.{k}": v for k, v in state.items()}
    torch.save(dict(
        pose=dict(epoch=60, lr=2e-4, optimizer=None, model_pos=state, min_loss=37.2),
        pose_gpu=dict(epoch=60, lr=2e-4, optimizer={}, model_pos=wrap, min_loss=37.2),
        mesh_gpu=dict(epoch=60, lr=[1e-4, 1e-5], optimizer=None, model=wrap, best_jpe=76.9, best_epoch=3),
        action_gpu=dict(epoch=300, lr=[1e-3, 1e-4], optimizer=None, model=wrap, best_acc=93.0),
        agformer=dict(epoch=60, lr=5e-4, optimizer=None, model=wrap, min_mpjpe=45.1, wandb_id="x"),
        mmpose=dict(meta=dict(epoch=240, iter=1, mmpose_version="1.1.0"), state_dict=state), bare=state)[layout], path)
    return path


def loaded(model, path, *args):
    "The report and whether a warning was given."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return load_released(model, path, *args), len(said)


VEHS = {"J_regressor_VEHS7M_66kpts": (66, 5)}
MAKE = {  # name -> (model, skeleton, its names in the file, embedded body, layouts)
    "pose": (lambda: DSTformer(17, **BASE), "h36m_17", str, {}, ("pose", "pose_gpu", "bare")),
    "lite": (lambda: DSTformer(17, **LITE), "h36m_17", str, {}, ("pose", "pose_gpu")),
    "vehs_pose": (lambda: DSTformer(66, **BASE), "vehs_66", str, {}, ("pose", "pose_gpu")),
    "vehs_pose_37": (lambda: DSTformer(37, **BASE), "vehs_37", str, {}, ("pose_gpu",)),
    "mmpose": (lambda: DSTformer(17, **BASE), "h36m_17", mmpose_name, {}, ("mmpose",)),
    "mesh": (lambda: mesh_network(17, 20, **BASE), "h36m_17", str, smpl_buffers(), ("mesh_gpu", "bare")),
    "mesh_300": (lambda: mesh_network(17, 20, **BASE), "h36m_17", str, smpl_buffers(shapes=300), ("mesh_gpu",)),
    "vehs_mesh": (lambda: mesh_network(66, 20, **BASE), "vehs_66", str, smpl_buffers(VEHS), ("mesh_gpu",)),
    "action": (lambda: action_network(17, 6, hidden_dim=20, **BASE), "h36m_17", str, {}, ("action_gpu",)),
    "embedding": (lambda: action_network(17, embed_dim=12, **BASE), "h36m_17", str, {}, ("action_gpu",)),
    "agformer_xs": (lambda: MotionAGFormer("h36m_17", 5, 3, 16, 24, graph="released"), "h36m_17", str, {}, ("agformer", "bare")),
    "agformer_l": (lambda: MotionAGFormer("h36m_17", 7, 4, 32, 24, graph="released"), "h36m_17", str, {}, ("agformer",)),
}


@pytest.mark.parametrize("name,layout", [(n, layout) for n, made in MAKE.items() for layout in made[-1]])
def test_layout(name, layout, tmp_path):
    "Recognised, rebuilt and filled without being told what it is: everything matched, and the same output to the last bit."
    make, skeleton, rename, body, _ = MAKE[name]
    source = filled(make())
    path = write(tmp_path / "best_epoch.bin", {rename(k): v for k, v in source.state_dict().items()} | body, layout)
    again, report = open_released(path, skeleton)
    assert type(again) is type(source) and report.matched == tuple(source.state_dict())
    assert (report.missing, report.unexpected, report.mismatched, report.initialised) == ((), (), {}, ())
    assert set(report.ignored) == set(body) and report.reason == "every tensor of the model was found"
    assert ("module.* -> *" in report.renamed) == (layout[-4:] == "_gpu" or layout == "agformer")
    assert report.container == dict(pose="model_pos", pose_gpu="model_pos", mmpose="state_dict", bare="").get(layout, "model")
    x = torch.randn(2, getattr(source, "clip_length", 6), get_skeleton(skeleton).num_joints, 3)
    with torch.no_grad(): assert torch.equal(again(x), source(x)) and source(x).std() > 0
    fresh = make().eval()
    assert loaded(fresh, path) == (report, 0)
    with torch.no_grad(): assert torch.equal(fresh(x), source(x))


def test_names_are_the_documented_ones():
    assert agformer_names(3) == set(MAKE["agformer_xs"][0]().state_dict())
    names = {mmpose_name(k) for k in DSTformer(17, **BASE).state_dict()}
    assert {"backbone.spat_embed", "backbone.joints_embed.weight", "backbone.blocks_ts.1.mlp_t.2.bias", "backbone.blocks_st.0.attn_s.qkv.weight",
            "backbone.attn_regress.1.weight", "backbone.norm.bias", "head.pre_logits.fc.weight", "head.fc.bias"} <= names and len(names) == 110


def test_mesh_regressor_on_a_body(tmp_path):
    "The file's own body is left out and ours is used; the file of a 300-shape head is told, and nothing of it is forced in."
    body, regressor, *_ = body_and_regressor(3)
    make = lambda: MeshRegressor(DSTformer(17, **BASE), body, regressor, 20).eval()
    source, target = filled(make()), make()
    state = source.state_dict()
    path = write(tmp_path / "mesh.bin", state | smpl_buffers(shapes=300), "mesh_gpu")
    report, said = loaded(target, path)
    assert report.complete and not said and len(report.ignored) == 13 and report.matched == tuple(state)
    x = torch.randn(1, 2, 17, 3)
    with torch.no_grad(): assert torch.equal(source(x).vertices, target(x).vertices)
    wide = {"head.init_shape": (1, 300), "head.head_shape.weight": (300, 20), "head.head_shape.bias": (300,)}
    path = write(tmp_path / "wide.bin", state | {k: torch.zeros(s) for k, s in wide.items()}, "mesh_gpu")
    report, said = loaded(make(), path)
    assert said == 1 and report.mismatched == {k: (tuple(state[k].shape), s) for k, s in wide.items()} and "same names but other sizes" in report.reason
    report, said = loaded(make(), write(tmp_path / "pose.bin", source.backbone.state_dict(), "pose_gpu"))
    assert said == 1 and report.missing == tuple(k for k in state if not k.startswith("backbone.")) and report.renamed.endswith("* -> backbone.*")


@pytest.mark.parametrize("name", ["action", "embedding", "mesh"])
def test_backbone_of_a_larger_file(name, tmp_path):
    "The head's names are reported as left over, the backbone is complete and gives the same representation."
    source = filled(MAKE[name][0]())
    path = write(tmp_path / "best_epoch.bin", source.state_dict() | MAKE[name][3], "action_gpu")
    target = DSTformer(17, **BASE).eval()
    report, said = loaded(target, path)
    heads = {k for k in source.state_dict() if k.startswith("head.")}
    assert said == 1 and set(report.unexpected) == heads and report.matched == tuple(target.state_dict()) and not report.missing and not report.mismatched
    assert "for which the model has no place" in report.reason and report.require(("head.*",)) is report
    with pytest.raises(ValueError, match="not allowed: head"): report.require()
    x = torch.randn(2, 4, 17, 3)
    with torch.no_grad(): assert torch.equal(target.representation(x), source.backbone.representation(x))
    part = ActionNet(DSTformer(17, **BASE), num_classes=3, hidden_dim=8)
    report, said = loaded(part, path)
    assert said == 1 and len(report.matched) >= 110 and set(report.mismatched) | set(report.missing) | set(report.unexpected) <= heads | set(part.state_dict())
    assert torch.equal(part.backbone.norm.weight, source.backbone.norm.weight)


def test_wrong_joint_count_and_carried_rows(tmp_path):
    "17 -> 24: told without skeletons; with them same-named rows are the file's, other rows the model's own, all else complete."
    source = filled(DSTformer(17, **BASE))
    path = write(tmp_path / "best_epoch.bin", source.state_dict(), "pose_gpu")
    report, said = loaded(DSTformer(24, **BASE), path)
    assert said == 1 and report.mismatched == {"pos_embed": ((1, 24, 32), (1, 17, 32))} and "for 17 joints in the file and 24 in the model" in report.reason
    with pytest.raises(ValueError, match="found 17; name the file's skeleton"): open_released(path, "rtm_24")
    target = DSTformer(24, **BASE)
    start = target.pos_embed.detach().clone()
    report, said = loaded(target, path, ("h36m_17", "rtm_24"))
    assert report.complete and said == 0 and f"initialised from {len(report.initialised)} joints" in report.reason
    names = {"HIP": "hip", "KNEE": "knee", "ANKLE": "ankle", "SHOULDER": "shoulder", "ELBOW": "elbow", "WRIST": "wrist"}
    for side, word in (("L", "left"), ("R", "right")):
        for a, b in names.items():
            assert side + a in report.initialised and torch.equal(target.pos_embed[0, RTM.idx(side + a)], source.pos_embed[0, H36M.idx(f"{word}_{b}")])
    for j, n in enumerate(RTM.joints):
        assert torch.equal(target.pos_embed[0, j], start[0, j]) == (n not in report.initialised)
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items() if k != "pos_embed")


def test_head_over_other_joints(tmp_path):
    "A mesh head reads all joints at once: its first layers are told and keep their start, the rest comes over."
    source, target = filled(mesh_network(17, 20, **BASE)), mesh_network(24, 20, **BASE)
    path = write(tmp_path / "mesh.bin", source.state_dict() | smpl_buffers(), "mesh_gpu")
    report, said = loaded(target, path, ("h36m_17", "rtm_24"))
    assert said == 1 and set(report.mismatched) == {"head.fc1.weight", "head.fc2.weight"} and len(report.initialised) > 12
    assert "head.fc1.weight, head.fc2.weight read all joints at once and keep the initial values" in report.reason and "other sizes" not in report.reason
    assert torch.equal(target.head.head_pose.weight, source.head.head_pose.weight)


def test_motionagformer_on_other_joints(tmp_path):
    "The norm over joints moves with the table; without skeletons both are told as joints."
    source = filled(MAKE["agformer_xs"][0]())
    path = write(tmp_path / "motionagformer-xs-h36m.pth.tr", source.state_dict(), "agformer")
    target = MotionAGFormer("rtm_24", 5, 3, 16, 24)
    report, said = loaded(target, path, ("h36m_17", "rtm_24"))
    assert report.complete and said == 0
    for i, layer in enumerate(target.layers):
        for key, start in dict(weight=1, bias=0, running_mean=0, running_var=1).items():
            got, want = (getattr(m.graph_spatial.mixer.batch_norm, key) for m in (layer, source.layers[i]))
            assert torch.equal(got[RTM.idx("RWRIST")], want[H36M.idx("right_wrist")]) and got[RTM.idx("REAR")] == start
        assert torch.equal(layer.graph_temporal.mixer.batch_norm.running_var, source.layers[i].graph_temporal.mixer.batch_norm.running_var)
    assert target.eval()(torch.randn(1, 5, 24, 3)).isfinite().all()
    report, said = loaded(MotionAGFormer("rtm_24", 5, 3, 16, 24), path)
    assert said == 1 and set(report.mismatched) == {"pos_embed", *(f"layers.{i}.graph_spatial.mixer.batch_norm.{k}" for i in range(3)
                                                                  for k in ("weight", "bias", "running_mean", "running_var"))}
    assert "for 17 joints in the file and 24 in the model" in report.reason and "other sizes" not in report.reason


class Evil:
    def __init__(self, folder): self.folder = str(folder)
    def __reduce__(self): return os.mkdir, (self.folder,)


def refused(path, *words):
    "A sentence that names the file, and a model that is left as it was; both ways in."
    model = DSTformer(17, **BASE)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for way in (lambda: load_released(model, path), lambda: open_released(path)):
        with pytest.raises(ValueError) as told: way()
        assert path.name in str(told.value) and all(w in str(told.value) for w in words), told.value
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99, 0.9999])
@pytest.mark.parametrize("old", [False, True])
def test_truncated(share, old, tmp_path):
    path, state = tmp_path / "cut.bin", {f"module.{k}": v for k, v in DSTformer(17, **BASE).state_dict().items()}
    torch.save(dict(epoch=1, model_pos=state), path, _use_new_zipfile_serialization=not old)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize("layout", ["pose_gpu", "mesh_gpu", "agformer", "mmpose", "bare"])
def test_malicious(layout, tmp_path):
    ran, state = tmp_path / "ran", DSTformer(17, **BASE).state_dict()
    refused(write(tmp_path / "evil.bin", {**state, "norm.bias": Evil(ran)}, layout), "mkdir")
    torch.save(dict(model_pos=state, optimizer=Evil(ran)), tmp_path / "beside.bin")
    refused(tmp_path / "beside.bin", "mkdir")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(dict(model_pos=state, epoch=Evil(ran)), 2))
    refused(tmp_path / "plain.bin")
    assert not ran.exists()


@pytest.mark.parametrize("layout", ["pose_gpu", "mesh_gpu", "mmpose", "bare"])
def test_nothing_matched(layout, tmp_path):
    "Weights of something else, only a body, or another lifter: never a silent success."
    refused(write(tmp_path / "odd.bin", {"conv.weight": torch.zeros(3, 3), "fc.bias": torch.zeros(2)}, layout))
    refused(write(tmp_path / "body.bin", smpl_buffers(), layout))
    path = write(tmp_path / "mixste.bin", MixSTE2(17, 16, 2, maxlen=9).state_dict(), layout)
    with pytest.raises(ValueError, match="none of its .* tensors fits the 110 of DSTformer.*the file is a MixSTE checkpoint"): load_released(DSTformer(17, **BASE), path)
    torch.save(dict(model_pos={}), tmp_path / "empty.bin")
    refused(tmp_path / "empty.bin")


def test_wrong_size_is_told(tmp_path):
    "Lite weights for a base model, too few layers: the two common mistakes."
    path = write(tmp_path / "lite.bin", filled(DSTformer(17, **LITE)).state_dict(), "pose_gpu")
    report, said = loaded(DSTformer(17, **BASE), path)
    assert said == 1 and "lite weights for a base model" in report.reason and not report.missing and not report.unexpected
    report, said = loaded(DSTformer(17, **dict(LITE, depth=3)), path)
    assert said == 1 and len(report.missing) == 50 and "the file has 2 layers, the model 3" in report.reason


@pytest.mark.parametrize("part", ["head.*", "head.*, pos_embed"])
def test_partial_training_from_a_released_file(part, tmp_path):
    "Fine-tuned across joint sets with only some names learning: those move, the rest is bit by bit the file's."
    size = dict(dim_feat=16, dim_rep=16, depth=1, num_heads=2, mlp_ratio=1, maxlen=9)
    source = fill_recipe(DSTformer(24, **size), 0.05)
    path = write(tmp_path / "best_epoch.bin", source.state_dict(), "pose_gpu")
    config = tiny(tmp_path, "run", epochs=1, weights=str(path), weights_skeleton="rtm_24", partial_train=part)
    fit(config)
    start = DSTformer(17, **size)
    load_released(start, path, ("rtm_24", "h36m_17"))
    done = load_weights(tmp_path / "run/final.safetensors").state
    moved = {k for k, v in start.state_dict().items() if not torch.equal(v, done[k])}
    assert {"head.weight", "head.bias"} <= moved <= {"head.weight", "head.bias", "pos_embed"} and ("pos_embed" in moved or "pos_embed" not in part)
