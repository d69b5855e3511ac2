"""Readers of mesh estimators' results and of the picture demo's own files for the fuzz run: name -> (writer of a small valid file, reader)."""
import numpy as np

from humanbody.coco_oks import load_coco
from humanbody.data.files import save_json
from humanbody.data.joblib_files import load_joblib, save_joblib
from humanbody.data.mesh_results import read_mesh_results, write_mesh_results
from humanbody.image_inference import MeshPerson, PictureResult, load_people, save_people
from humanbody.image_people import PersonBox, Picture, read_box_file
from humanbody.mesh_export import read_glb, read_obj, write_glb, write_obj
from humanbody.mesh_predictions import MeshPredictions, load_predictions
from humanbody.mesh_samples import MeshSamples, load_samples, save_samples
from humanbody.sequence import PoseSequence


def person(skeleton="smpl_24", joints=24):
    """Return a sequence of two frames."""
    r = np.random.default_rng(0)
    body = dict(pose=r.normal(size=(2, 24, 3)) * 0.3, betas=np.zeros((2, 10)), trans=np.ones((2, 3)))
    return PoseSequence(r.normal(size=(2, joints, 3)), skeleton, 30, "camera", body=body, frames=np.arange(2), subject="1")


def results(layout, ending="pkl"):
    """Return a writer of one layout."""
    def write(path):
        path = path.with_suffix(f".{ending}")
        return write_mesh_results([person("openpose_25", 25) if layout == "sam3d" else person()], path, layout)
    return write


def predictions(path):
    """Write predicted bodies."""
    return MeshPredictions(np.arange(2), np.tile(np.eye(3), (2, 24, 1, 1)), np.zeros((2, 10)), np.ones((2, 3)), "m", (dict(row=3, image="a.jpg", reason="damaged"),)).save(path.with_suffix(".npz"))


def samples(path):
    """Write per-picture errors."""
    place = dict(subject=np.array(["a", "b"]), action=np.array(["", ""]), sequence=np.array(["", ""]), frame=np.arange(2))
    return save_samples(MeshSamples("mesh", np.arange(2), {("mpjpe", "H36M 14", "pelvis", "none"): np.ones(2)}, {"H36M 14": np.full(2, 14)}, {"hip_width": np.ones((2, 2))},
                                    np.zeros((2, 2, 14, 3)), place), path.with_suffix(".npz"))


def coco(path):
    """Write keypoint annotations of one person."""
    note = dict(id=1, image_id=3, category_id=1, iscrowd=0, area=100.0, bbox=[0, 0, 10, 10], num_keypoints=17, keypoints=[5, 5, 2] * 17)
    return save_json(path.with_suffix(".json"), dict(images=[dict(id=3, file_name="3.jpg")], annotations=[note], categories=[dict(id=1, name="person")]))


def text(ending, words):
    """Return a writer of a small text file."""
    def write(path):
        path = path.with_suffix(ending)
        path.write_text(words, encoding="utf-8")
        return path
    return write


def people(path):
    """Write one person of one picture."""
    box = PersonBox(np.array([5.0, 5.0]), 0.1, 0)
    one = MeshPerson(0, box, np.zeros((3, 3)), np.tile(np.eye(3), (24, 1, 1)), np.zeros(10), np.ones(3), np.ones(3), np.ones(3), np.ones(4), 100.0)
    return save_people([PictureResult(Picture("a.jpg", np.zeros((10, 10, 3), np.uint8), 0), [one])], path.with_suffix(".npz"), "t", "m")


def mesh(write, ending):
    """Return a writer of two small bodies."""
    return lambda path: write(path.with_suffix(ending), {"a": np.eye(3), "b": np.eye(3) + 1}, np.array([[0, 1, 2]]))


def read(path): return read_mesh_results(path, 30)


READERS = {f"mesh results {layout}": (results(layout), read) for layout in ("phalp", "tracks", "prompthmr", "nlf", "sam3d", "params", "smplify")}
READERS |= {"mesh results smplify npz": (results("smplify", "npz"), read), "mesh results sam3d json": (results("sam3d", "json"), read),
            "load_joblib plain": (lambda p: save_joblib(p, dict(a=np.arange(6.0), b=[1, "x"]), False), load_joblib), "load_joblib": (lambda p: save_joblib(p, dict(a=np.arange(6.0), b=[1, "x"])), load_joblib),
            "load_predictions": (predictions, load_predictions), "load_samples": (samples, load_samples), "load_coco": (coco, load_coco)}
READERS |= {"read_box_file csv": (text(".csv", "image,x,y,width,height,person,score\na.jpg,1,2,30,40,0,0.9\n"), read_box_file),
            "read_box_file json": (text(".json", '{"a.jpg": [[1, 2, 30, 40]], "b": []}'), read_box_file), "load_people": (people, load_people),
            "read_glb": (mesh(write_glb, ".glb"), read_glb), "read_obj": (mesh(write_obj, ".obj"), read_obj)}
