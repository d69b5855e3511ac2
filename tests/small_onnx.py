"""A valid exported lifter made by hand, of a few kB: x and y doubled."""
import numpy as np

from humanbody.models.onnx_files import onnx_package, write_model
from humanbody.skeleton import get_skeleton


def small_lifter(path, skeleton="rtm_24"):
    """Write the file and return its path."""
    h, sk = onnx_package("onnx").helper, get_skeleton(skeleton)
    ends = [h.make_tensor_value_info(n, 1, ["batch", "frames", sk.num_joints, 3]) for n in ("pose2d", "pose3d")]
    scale = onnx_package("onnx").numpy_helper.from_array(np.array([2, 2, 1], np.float32), "scale")
    graph = h.make_graph([h.make_node("Mul", ["pose2d", "scale"], ["pose3d"])], "g", ends[:1], ends[1:], [scale])
    meta = dict(name="twice", skeleton=sk.to_dict(), output_skeleton=sk.to_dict(), input="image", unit="m", frames=dict(min=1, max=27), conventions={},
                variant="fp32", card=dict(seed=1), license="Apache-2.0", fingerprint="0")
    return write_model(h.make_model(graph, ir_version=10, opset_imports=[h.make_opsetid("", 20)]), path, meta)
