"""Source notes 000 (mixture, thin people, poor evaluation), 003 (mmpose's other numbers) and 004 (points of masks): every failure mode and where it is tested.
A test is named `file::function`, a notebook `file::words of the cell that shows it`."""
import ast
import json
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
N0, N4, THIN = (f"tests/test_{n}.py::test_" for n in ("source_note_000", "source_note_004", "thin_people"))
TRAIN, EVAL = (f"tests/test_{n}.py::test_" for n in ("mesh_training", "mesh_evaluation"))
PYMAF, FIT, FILES = "tests/test_pymaf.py::test_", "tests/test_smplify.py::test_", "tests/test_mesh_released.py::test_"

MIXTURE = {  # what the mixture of note 000 broke
    "truth of Human3.6M overwritten by fits": [N0 + "the_mixture_keeps_truth_and_fits_apart", "nbs/18b_fits.ipynb::measured truth overwritten"],
    "fits called truth, extreme shapes copied back": [
        N0 + "the_mixture_keeps_truth_and_fits_apart", "nbs/43g_fit_loop.ipynb::the extreme is back, the true 4 is gone"],
    "partial truth of MPI-INF-3DHP lost": [N0 + "the_mixture_keeps_truth_and_fits_apart", "nbs/18b_fits.ipynb::partial truth lost"],
    "names of the fit files": [N0 + "released_fit_names_find_their_sets"],
    "fits of another version of the annotations": [
        N0 + "rebuilt_annotations_do_not_get_other_peoples_fits", "nbs/18ba_fit_files.ipynb::expected 5 rows", "nbs/18b_fits.ipynb::belong to other rows"],
    "two lists of sets in two orders": [N0 + "the_order_of_sets_changes_nothing"],
    "no Human3.6M bodies (MoSh)": [TRAIN + "the_mixture_of_source_note_000_trains_without_mosh", TRAIN + "an_absent_set_gives_its_share_to_the_others"],
    "one set alone means something else": [N0 + "a_set_alone_means_the_same_as_in_the_mixture", TRAIN + "lspet_alone_with_mask_points"],
    "type of has_smpl": [N0 + "flags_of_any_type_mean_the_same", "nbs/18a_spin_npz.ipynb::Flags of any type become bool"],
}
THIN_PEOPLE = {  # why its people were thin and its numbers poor
    "1 mirrored keypoints keep their rows": [
        THIN + "the_right_flip_keeps_widths_and_the_wrong_one_makes_people_thin", THIN + "labels_of_every_training_batch_agree_with_the_body",
        FIT + "thin_people"],
    "2 IUV target of zeros": ["nbs/32a_iuv_losses.ipynb::The failure of source note 000", "nbs/43i_mesh_learner.ipynb::maps = iuv_targets("],
    "3 few steps, and rows of one subject": [N0 + "few_rows_of_a_sorted_set_are_all_its_people", N0 + "steps_are_counted_against_the_published_run"],
    "4 shape nearly without supervision": [
        N0 + "an_average_body_fools_the_joints_but_not_the_girth", "nbs/52g_mesh_evaluation.ipynb::a fatter prediction is wider"],
    "5 extreme shapes let in again": [N0 + "the_mixture_keeps_truth_and_fits_apart", "nbs/43g_fit_loop.ipynb::the extreme is back"],
    "6 contrast stretched in training or testing alone": [N0 + "training_evaluation_and_demo_see_the_same_pixels"],
    "7 eval() missing": [N0 + "evaluation_switches_dropout_and_batch_statistics_off", N0 + "validation_in_training_is_that_of_the_saved_network"],
    "8 neutral body for gendered truth, wrong root frame": [
        EVAL + "neutral_truth_raises_pve", "nbs/18a_spin_npz.ipynb::A doubtful file is read and its doubts are said"],
    "9 keypoints cut to whole pixels": [N0 + "keypoints_are_not_cut_to_whole_pixels", "nbs/15b_crops.ipynb::truncation toward zero"],
    "10 camera from wrongly mirrored keypoints": [N0 + "cameras_of_mirrored_people_come_from_permuted_keypoints"],
}
CODE = {  # in the published code of these methods
    "flip group: image, 2D, 3D, pose, maps, points": [
        THIN + "flip_twice_is_the_identity_and_commutes_with_the_body", "nbs/15c_augment.ipynb::Twice mirrored is the identity"],
    "body buffers inside checkpoints": [PYMAF + "released_layout", "nbs/29d_mesh_released.ipynb::SMPL buffers do not come back"],
    "two versions of J_regressor_extra": ["nbs/04g_spin_joints.ipynb::14 rows are GraphCMR's"],
    "cross product without an axis": [N0 + "three_rotations_are_like_any_other_number"],
    "fits rotated then mirrored, or the other way": ["nbs/18b_fits.ipynb::Both orders agree with the published code"],
    "SMPLify edits its input": [FIT + "input_survives_and_order_of_people_does_not_matter", FIT + "never_worse_than_the_start"],
    "missing labels as zeros": [
        "nbs/32_mesh_losses.ipynb::The trap: a missing 3D label stored as zeros", FIT + "losses_are_finite_for_every_pattern_of_absence"],
    "PyMAF: validation of a set or network crashes": [N0 + "every_protocol_runs_for_every_network"],
    "PyMAF: evaluation counts with the training batch": [N0 + "batches_that_do_not_divide_the_set_change_no_number"],
}
POINTS = {  # note 004
    "points by chance": [N4 + "points_do_not_depend_on_the_batch", PYMAF + "masks_are_deterministic", PYMAF + "bank"],
    "stretched to the whole map": [N4 + "points_stay_where_the_person_is"],
    "rows that belong to other images": [N4 + "points_follow_the_name_and_not_the_row", N4 + "two_people_of_one_picture_keep_their_own_points"],
    "images skipped in silence": [N4 + "a_missing_mask_is_a_grid_and_nobodys_points"],
    "points not moved with the picture": [N4 + "points_move_with_the_picture", "nbs/15e_mask_points.ipynb::mirroring twice is nothing"],
    "no fixed order": [N4 + "points_of_mirrored_crops_come_in_the_order_of_plain_ones", "nbs/15e_mask_points.ipynb::np.diff(rows[:400])"],
    "float64 into grid_sample": [N4 + "points_in_double_precision_are_no_crash"],
    "one box and three points for every image": [N4 + "the_mask_is_asked_for_with_the_persons_own_box"],
    "grid order": [N4 + "the_grid_is_sampled_x_first", PYMAF + "mistakes"],
    "file names of saver and selector differ": ["nbs/15d_masks.ipynb::read_reference_mask"],
    "strictness of loading turned round": [FILES + "pymaf_other_bodies_and_parts", "nbs/29d_mesh_released.ipynb::Wrong heads, other networks"],
}
PROTOCOL = {  # evaluations that differ without saying so
    "truth of Human3.6M is used as stored": [N0 + "the_truth_of_human36m_is_not_centred_again", EVAL + "parity_of_protocols"],
    "head of Human3.6M, not top of head": ["nbs/52e_mesh_protocols.ipynb::J24_TO_J14"],
    "PVE in three definitions, refused without a mesh": [
        "nbs/52f_mesh_samples.ipynb::The three definitions", "nbs/52g_mesh_evaluation.ipynb::PVE without true meshes is refused"],
    "mmpose's numbers are another protocol": [N0 + "numbers_of_two_protocols_on_one_file_differ_and_are_named", EVAL + "mmpose_joint_error"],
    "frontal camera, actions from file names": ["nbs/52e_mesh_protocols.ipynb::S9_Photo_1.60457274_000421", N0 + "every_protocol_runs_for_every_network"],
    "labels of parts invented at borders, box sides exchanged": [N0 + "part_maps_keep_their_labels", "nbs/15b_crops.ipynb::exchanges height and"],
    "ignored pixels of parts": ["nbs/42e_lsp_masks.ipynb::seg/ig"],
    "COCO: joints and place of the crop": ["nbs/42d_coco_oks.ipynb::J24_TO_JCOCO", EVAL + "coco_end_to_end"],
    "last batch left out, results saved for one set only": [
        N0 + "batches_that_do_not_divide_the_set_change_no_number", N0 + "every_protocol_runs_for_every_network"],
    "loss averages": ["nbs/32_mesh_losses.ipynb::as published, it halves the keypoint term"],
}
PARTS = dict(mixture=MIXTURE, thin_people=THIN_PEOPLE, code=CODE, points=POINTS, protocol=PROTOCOL)


@lru_cache(maxsize=64)
def known(file):
    """Names of the tests of a Python file, or what a notebook says and tests."""
    path = ROOT / file
    if path.suffix == ".py": return {n.name for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.FunctionDef)}
    cells = ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    return "\n".join(c for c in cells if not re.match(r"#\s*\|\s*export", c))


def exists(place):
    """Tell whether a test or a cell is there."""
    file, _, what = place.partition("::")
    return (ROOT / file).is_file() and what in known(file)


@pytest.mark.parametrize("part", PARTS)
def test_every_failure_mode_has_its_test(part):
    """All places exist, and a made-up one would be missed."""
    lost = {mode: p for mode, places in PARTS[part].items() for p in places if not exists(p)}
    assert not lost and all(PARTS[part].values()), lost
    assert not exists(N0 + "what_nobody_wrote") and not exists("nbs/18b_fits.ipynb::what nobody wrote")


def test_the_list_is_complete():
    """Nine things the mixture broke, ten causes of thin people; every test of the two files of the notes is in the list."""
    assert (len(MIXTURE), len(THIN_PEOPLE)) == (9, 10)
    listed = {p for part in PARTS.values() for places in part.values() for p in places}
    for start in (N0, N4):
        file, _, _ = start.partition("::")
        assert {n for n in known(file) if n.startswith("test_")} == {p.partition("::")[2] for p in listed if p.startswith(file)}
