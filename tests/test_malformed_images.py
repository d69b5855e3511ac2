"""Malformed image annotations and fits: each is refused in one sentence, or read with a note that says what was done."""
import numpy as np
import pytest
from fuzz_registry_images import spin_arrays

from humanbody.data.fit_files import read_fits
from humanbody.data.fits import Fits, FitsStore, choose_target
from humanbody.data.imagestore import ImageStore
from humanbody.data.spin_npz import read_spin_npz

FULL = 8


def write(folder, drop=(), **changes):
    """Write a SPIN npz of eight people with some keys changed or left out."""
    path = folder / "people.npz"
    np.savez(path, **{k: v for k, v in (spin_arrays(FULL) | changes).items() if k not in drop})
    return path


def refused(path, *words, **options):
    """Assert that the file is refused in one sentence that names it and holds the words."""
    with pytest.raises(ValueError) as e: read_spin_npz(path, **options)
    text = str(e.value)
    assert path.name in text and "\n" not in text and "expected" in text and "found" in text, text
    for word in words: assert word in text, text


def noted(path, *words, **options):
    """Assert that the file is read, gives a store, and one note holds the words; return both."""
    a = read_spin_npz(path, **options)
    for word in words: assert any(word in note for note in a.notes), a.notes
    return a, a.to_store(path.parent / "store", "people", "train", overwrite=True)


@pytest.mark.parametrize("key", ["imgname", "center", "scale"])
def test_case_05_key_missing(tmp_path, key):
    refused(write(tmp_path, drop=[key]), f"no {key}", "add them")


def test_case_05_every_other_key_may_be_missing(tmp_path):
    keys = [k for k in spin_arrays(1) if k not in ("imgname", "center", "scale")]
    assert read_spin_npz(write(tmp_path, drop=keys)).labels == {}


@pytest.mark.parametrize("key", [k for k in spin_arrays(1) if k != "imgname"])
def test_case_06_unequal_rows(tmp_path, key):
    refused(write(tmp_path, **{key: spin_arrays(FULL)[key][:-1]}), f"8 rows in every array as in imgname", f"'{key}': 7")


def test_case_07_part_of_17_joints(tmp_path):
    part = spin_arrays(FULL)["part"][:, :17]
    refused(write(tmp_path, part=part), "[part]", "(N,24,3)", "(8, 17, 3)", "skeleton=")
    S = spin_arrays(FULL)["S"][:, :17]
    _, store = noted(write(tmp_path, drop=["pose", "shape"], part=part, S=S), skeleton="h36m_17")
    assert store.labels["keypoints2d/h36m_17"].shape == (8, 17, 3) and "keypoints2d/spin_24" not in store.labels


def test_case_08_S_without_flags(tmp_path):
    S = spin_arrays(FULL)["S"][..., :3].copy()
    S[:, 14], S[1, 3] = 0, 0  # the pelvis at the origin is a joint, another joint there is none
    S[2] = 0
    a, store = noted(write(tmp_path, drop=["pose", "shape"], S=S), "S had no last column")
    flags = a.labels["joints3d/spin_24"][0][..., 3]
    assert flags[0].all() and flags[1, 14] == 1 and flags[1, 3] == 0 and not flags[2].any()
    assert store.present("joints3d/spin_24").tolist() == [True, True, False] + [True] * 5


def test_case_09_pose_layouts(tmp_path):
    from scipy.spatial.transform import Rotation
    pose = spin_arrays(FULL)["pose"]
    a, _ = noted(write(tmp_path, pose=pose.reshape(-1, 24, 3)), "pose was (N,J,3)")
    assert np.array_equal(a.labels["pose"][0], pose)
    mats = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    a, _ = noted(write(tmp_path, pose=mats), "rotation matrices")
    again = Rotation.from_rotvec(a.labels["pose"][0].reshape(-1, 3)).as_matrix().reshape(mats.shape)
    assert np.abs(again - mats).max() < 1e-9
    refused(write(tmp_path, pose=np.zeros((FULL, 156))), "[pose]", "(8, 156)")
    refused(write(tmp_path, pose=2 * mats), "[pose], row 0", "rotation matrices")


def test_case_10_shape_layouts(tmp_path):
    long = np.random.default_rng(1).normal(size=(FULL, 300))
    a, _ = noted(write(tmp_path, shape=long), "300 coefficients")
    assert np.array_equal(a.labels["betas"][0], long[:, :10])
    a, _ = noted(write(tmp_path, shape=long[0, :10]), "one row for the whole file")
    assert np.array_equal(a.labels["betas"][0], np.repeat(long[:1, :10], FULL, 0))
    refused(write(tmp_path, shape=long[:, :9]), "[shape]", "(8, 9)")


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_case_11_scale_not_positive(tmp_path, value):
    scale = spin_arrays(FULL)["scale"].copy()
    scale[5] = value
    refused(write(tmp_path, scale=scale), "row 5", "drop_bad=True")
    a, store = noted(write(tmp_path, scale=scale), "1 rows without a usable box were left out, the first is row 5", drop_bad=True)
    assert len(store) == 7 and store.meta["dropped_rows"] == [5] and store.images[5] == "im0006.jpg"


def test_case_12_scale_columns(tmp_path):
    scale = spin_arrays(FULL)["scale"]
    assert np.array_equal(noted(write(tmp_path, scale=scale[:, None]), "scale was (N,1)")[0].scale, scale)
    assert np.array_equal(noted(write(tmp_path, scale=np.stack([scale, scale], 1)), "equal columns")[0].scale, scale)
    assert np.array_equal(noted(write(tmp_path, scale=np.stack([scale, scale / 2], 1)), "the larger side")[0].scale, scale)
    refused(write(tmp_path, scale=np.ones((FULL, 3))), "[scale]", "(8, 3)")


def test_case_13_centre_outside(tmp_path):
    center = spin_arrays(FULL)["center"].copy()
    center[3] = -400, 150
    a, store = noted(write(tmp_path, center=center), "1 box centres lie outside the image, the first is row 3", "1 boxes hold none of their keypoints, the first is row 3")
    assert np.array_equal(store.center, center)
    center[3] = 5000, 150  # beyond the right border: the image size is not in the file, the keypoints tell
    noted(write(tmp_path, center=center), "1 boxes hold none of their keypoints, the first is row 3")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_case_14_images_keypoints_not_finite(tmp_path, value):
    d = spin_arrays(FULL)
    d["part"][2, 7, 0] = d["S"][1, 4, 2] = d["openpose"][3, 9, 2] = value
    a, store = noted(write(tmp_path, **d), "part: 1 joints in 1 rows were not finite", "S: 1 joints", "openpose: 1 joints")
    assert store.values("keypoints2d/spin_24")[2, 7, 2] == 0 and store.values("joints3d/spin_24")[1, 4, 3] == 0
    d["part"][5] = value
    assert not noted(write(tmp_path, **d))[1].present("keypoints2d/spin_24")[5]
    with pytest.raises(ValueError, match="row 0, joint 0"):
        ImageStore.create(tmp_path / "direct", "x", "t", ["a"], [[1, 1]], [1], {"keypoints2d/h36m_17": np.full((1, 17, 3), [value, 0, 1])})


def test_case_37_degrees(tmp_path):
    pose = spin_arrays(FULL)["pose"]
    refused(write(tmp_path, pose=np.rad2deg(pose)), "[pose], row 0", "radians", "pose_unit='deg'")
    a, _ = noted(write(tmp_path, pose=np.rad2deg(pose)), pose_unit="deg")
    assert np.allclose(a.labels["pose"][0], pose, atol=1e-12)
    many = spin_arrays(200)
    many["pose"][150, 9] = 7.5  # one wild row among many is no unit
    np.savez(tmp_path / "many.npz", **many)
    assert any("1 rows hold angles above 7 rad, the first is row 150" in t for t in read_spin_npz(tmp_path / "many.npz").notes)


def test_case_38_root_in_world_frame(tmp_path):
    d = spin_arrays(FULL)
    d["has_smpl"][:] = 1
    d["S"][:, [14, 15], :3] = [[0, 0, 0], [0, -0.5, 0]]  # y down: the trunk points up
    assert not any("world frame" in t for t in noted(write(tmp_path, **d))[0].notes)
    d["pose"][:, :3] = 0  # upright in a y-up world
    noted(write(tmp_path, **d), "pose and S are in different frames; the pose root may be in the world frame")
    noted(write(tmp_path, drop=["S"], **d), "people stand on their head in camera axes (y down)")


def test_case_39_gender_and_shape(tmp_path):
    words = np.array(["neutral", "u", "m", "F", "female", "n", "", "x"])
    a, store = noted(write(tmp_path, gender=words), "gender 'u', 'x' is not known", "betas belong to the body model of each row's gender")
    assert store.values("gender").tolist() == [2, -1, 0, 1, 1, 2, -1, -1]
    assert "gender" not in store.row(1) and store.row(0)["gender"] == 2
    neutral = noted(write(tmp_path, gender=np.array(["neutral"] * FULL)))[0]
    assert not any("betas belong" in t for t in neutral.notes)


@pytest.mark.parametrize("make", [lambda x: x.astype(bool), lambda x: x.astype(np.uint8), lambda x: x.astype(np.float32), lambda x: x.astype(np.int64),
                                  lambda x: x.astype(np.float64)[:, None]])
def test_case_40_has_smpl_types(tmp_path, make):
    flags = np.arange(FULL) % 2
    _, store = noted(write(tmp_path, has_smpl=make(flags)))
    assert store.present("pose").tolist() == store.present("betas").tolist() == (flags == 1).tolist()
    assert np.isnan(store.values("pose")[0]).all()
    fits = FitsStore.create(tmp_path / "fits", Fits(list(store.images), np.zeros((FULL, 72)), np.zeros((FULL, 10)), make(flags * 0 + 1).ravel(), center=store.center))
    assert choose_target(store, fits).source.tolist() == ["fit", "gt"] * 4


def test_case_40_has_smpl_of_another_size(tmp_path):
    refused(write(tmp_path, has_smpl=np.ones((FULL, 2))), "[has_smpl]", "(8, 2)")


def test_case_51_fits_of_another_length(tmp_path):
    store = noted(write(tmp_path))[1]
    d = spin_arrays(FULL)
    fits = np.hstack([d["pose"], d["shape"]])
    np.save(tmp_path / "people_fits.npy", fits[:-1])
    np.savez(tmp_path / "people_fits.npz", pose=d["pose"][:-1], betas=d["shape"][:-1], valid_fit=np.ones(FULL - 1))
    for name in ("people_fits.npy", "people_fits.npz"):
        with pytest.raises(ValueError, match="expected 8 rows, one per row of the annotation file, found 7; .*do not pair them by row") as e:
            read_fits(tmp_path / name, store)
        assert name in str(e.value)


def test_case_51_valid_fit_missing_or_wrong(tmp_path):
    store = noted(write(tmp_path))[1]
    d = spin_arrays(FULL)
    d["pose"][2], d["pose"][4] = 0, np.nan
    np.savez(tmp_path / "f.npz", pose=d["pose"], betas=d["shape"])
    fits = read_fits(tmp_path / "f.npz", store)
    assert "valid_fit is missing" in fits.notes[0] and fits.valid.tolist() == [True, True, False, True, False, True, True, True]
    np.savez(tmp_path / "f.npz", pose=d["pose"], betas=d["shape"], valid_fit=np.ones(3))
    with pytest.raises(ValueError, match="expected 8 flags"): read_fits(tmp_path / "f.npz", store)


def test_case_52_duplicated_rows(tmp_path):
    d = spin_arrays(FULL)
    for key in ("imgname", "center", "scale"): d[key][6] = d[key][1]
    _, store = noted(write(tmp_path, **d), "1 rows repeat an image and box")
    assert len(store) == FULL and store.images[6] == store.images[1]
    fits = Fits(list(store.images), d["pose"], d["shape"], np.ones(FULL), center=np.array(store.center))
    assert choose_target(store, FitsStore.create(tmp_path / "fits", fits)).valid.all()


@pytest.mark.parametrize("key, value", [("imgname", "one.jpg"), ("imgname", None), ("center", np.zeros(()))])
def test_fuzz_found_eft_npz_of_single_values(tmp_path, key, value):
    from humanbody.data.fit_files import read_eft
    path = tmp_path / "eft.npz"
    np.savez(path, **{**spin_arrays(2), key: np.array(value)})
    with pytest.raises(ValueError, match="eft.npz: expected") as e: read_eft(path)
    assert "found" in str(e.value) and "\n" not in str(e.value)
