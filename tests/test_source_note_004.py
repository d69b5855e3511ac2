"""Source note 004 (PyMAF at mask points, published in a state that cannot run): each mistake is a check that our functions pass and the mistake fails."""

import numpy as np
import pytest
import torch
from PIL import Image

from humanbody.body import load_body
from humanbody.data.augment import Augment
from humanbody.data.image_scene_store import mask_points_of
from humanbody.data.imageloader import ImageDataset, collate_images
from humanbody.data.imagestore import ImageStore
from humanbody.data.mask_points import FOREGROUND_POINTS, NUM_POINTS, grid_points, select_points
from humanbody.data.masks import REFERENCE_PROMPTS, cut_mask, make_mask, mask_from_sam
from humanbody.image_mesh_data import ImageBatches, ImageMeshConfig, points_by_name
from humanbody.models import maf_extractor
from humanbody.models.pymaf import PyMAF

SIZE = 96


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def blob(cx, cy, rx=9.0, ry=16.0, size=SIZE):
    y, x = np.mgrid[:size, :size]
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Pictures with a person each at another place, the last one with two; a store of their boxes and masks."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    places = [("a.png", 30, 40), ("b.png", 60, 50), ("c.png", 48, 60), ("d.png", 25, 48), ("d.png", 70, 48)]
    for i, (name, cx, cy) in enumerate(places):
        Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(folder / name)
        Image.fromarray(blob(cx, cy).astype(np.uint8) * 255).save(folder / f"mask_{i}.png")
    names, n = [p[0] for p in places], len(places)
    kp = np.concatenate([np.full((n, 24, 2), 48.0), np.ones((n, 24, 1))], -1)
    labels = {"keypoints2d/spin_24": kp, "mask": [f"mask_{i}.png" for i in range(n)]}
    store = ImageStore.create(folder / "store", "lspet", "train", names, np.full((n, 2), 47.5), np.full(n, SIZE / 200), labels)
    return store, folder, [blob(x, y) for _, x, y in places]


def share_on(points, mask):
    """Share of the first 400 points (x, y in [-1,1]) that lie on a mask of the crop."""
    at = np.floor((np.asarray(points)[:FOREGROUND_POINTS] + 1) * len(mask) / 2).astype(int).clip(0, len(mask) - 1)
    return float(mask[at[:, 1], at[:, 0]].mean())


def test_points_stay_where_the_person_is(people):
    """Points lie on the person, in place and proportion; stretched to the whole map they miss most of it and every person looks alike."""
    store, folder, masks = people
    look = mask_points_of(store, folder, size=SIZE)
    middles, stretched = [], []
    for row, mask in enumerate(masks):
        p, wrong = look(row), select_points(make_mask(mask, f"{row}"), row, mode="reference")[0]
        assert share_on(p, mask) == 1 and share_on(wrong, mask) < 0.5
        middles.append(p[:FOREGROUND_POINTS].mean(0))
        stretched.append(wrong[:FOREGROUND_POINTS].mean(0))
        wide, high = np.ptp(p[:FOREGROUND_POINTS], 0)
        assert abs(wide / high - 9 / 16) < 0.1 and np.allclose(np.ptp(wrong[:FOREGROUND_POINTS], 0), 2)
    assert np.ptp(middles, 0)[0] > 0.7 and np.ptp(stretched, 0).max() < 0.2


def test_points_do_not_depend_on_the_batch(people):
    """The same image gets the same points and the same body twice, in any batch; consecutive rows of a bank from a random one on do not."""
    store, folder, _ = people
    data = ImageDataset(store, folder, res=SIZE, mask_points=mask_points_of(store, folder, size=SIZE))
    torch.manual_seed(0)
    net = PyMAF(load_body("free"), "light", hidden=256).eval()
    net.size = SIZE
    for r in net.regressor: r.decpose.weight.data.mul_(300)  # so that answers differ visibly
    for name, p in net.named_parameters(): p.data.mul_(100 if name.startswith("deconv") and p.ndim > 1 else 4 if name.startswith("maf") else 1)
    pack = lambda rows: collate_images([data[r] for r in rows])

    def answer(rows, bank=None):
        b = pack(rows)
        points = b["mask_points"] if bank is None else bank[int(torch.randint(len(bank) - len(rows) + 1, ())):][:len(rows)]
        with torch.no_grad(): return net(b["image"], points).final.pose6d

    a, b, c = answer([0, 1, 2, 3, 4]), answer([0, 1, 2, 3, 4]), answer([2, 0])
    near = float((a[[2, 0]] - c).abs().max())
    assert torch.equal(a, b) and near < 1e-4
    bank = torch.from_numpy(np.stack([select_points(make_mask(blob(20 + 3 * k, 48), "k"), k, mode="reference")[0] for k in range(20)]))
    calls = [answer([2, 0], bank) for _ in range(4)]
    assert max(float((x - calls[0]).abs().max()) for x in calls) > max(1e-4, 100 * near)


def points_file(folder, store, rows, masks):
    """points.npz of some rows, as the run masks writes it."""
    points = np.stack([select_points(make_mask(masks[r], store.images[r]))[0] for r in rows]).astype(np.float32)
    box = np.array([(*store.center[r], 200 * store.scale[r]) for r in rows])
    np.savez(folder / "points.npz", imgname=np.array([store.images[r] for r in rows]), points=points, box=box, pixel="half", seed=0)
    return folder / "points.npz", points


def test_points_follow_the_name_and_not_the_row(people, tmp_path):
    """A file whose rows are in another order, one image missing because it had no mask, still gives every image its own points; row numbers would not."""
    store, _, masks = people
    path, points = points_file(tmp_path, store, [2, 0], masks)
    look = points_by_name(path, store)
    assert look(1) is None and share_on(look(0), masks[0]) == share_on(look(2), masks[2]) == 1
    by_row = [share_on(points[k], masks[k]) for k in range(2)]
    assert max(by_row) < 0.5


def test_two_people_of_one_picture_keep_their_own_points(people, tmp_path):
    """Two people of one picture are told apart by the box that the file names, whatever the order of its rows."""
    store, folder, masks = people
    center = np.array([[47.5, 47.5]] * 3 + [[25.0, 48], [70.0, 48]])
    scale = np.full(5, 0.2)
    labels = {"keypoints2d/spin_24": store.values("keypoints2d/spin_24")}
    own = ImageStore.create(tmp_path / "boxes", "lspet", "train", list(store.images), center, scale, labels)
    cut = [cut_mask(make_mask(masks[r], own.images[r]), own.center[r], float(own.scale[r]), SIZE) for r in range(5)]
    points = np.stack([select_points(cut[r], seed=r)[0] for r in (4, 3)])
    box = np.array([(*own.center[r], 200 * own.scale[r]) for r in (4, 3)])
    np.savez(tmp_path / "points.npz", imgname=["d.png", "d.png"], points=points, box=box, pixel="half", seed=0)
    look = points_by_name(tmp_path / "points.npz", own)
    np.testing.assert_array_equal(look(3), points[1])
    np.testing.assert_array_equal(look(4), points[0])


def test_points_of_mirrored_crops_come_in_the_order_of_plain_ones(people):
    """The regressor flattens the points, so their order is part of the input: a mirrored crop has them from left to right too, not from right to left."""
    store, folder, masks = people
    data = ImageDataset(store, folder, res=SIZE, mask_points=mask_points_of(store, folder, size=SIZE))
    key = lambda p: np.floor((p[:, 1] + 1) * SIZE / 2) * 1000 + np.floor((p[:, 0] + 1) * SIZE / 2)  # row by row, from left to right
    sorted_ = lambda p: bool((np.diff(key(p[:FOREGROUND_POINTS])) >= 0).all() and (np.diff(key(p[FOREGROUND_POINTS:])) >= 0).all())
    for row, mask in enumerate(masks):
        data.augment = lambda row: Augment()
        plain = data[row]["mask_points"]
        data.augment = lambda row: Augment(flip=True)
        mirrored = data[row]["mask_points"]
        assert share_on(mirrored, mask[:, ::-1]) == 1 and sorted_(plain)
        assert not sorted_(plain * np.array([-1, 1]))  # moved alone
        assert sorted_(mirrored)


@pytest.mark.parametrize("turn", [0.0, 35.0, -90.0])
@pytest.mark.parametrize("flip", [False, True])
def test_points_move_with_the_picture(people, turn, flip):
    """Turned and mirrored with the crop, the points stay on the person; left where they were, they do not."""
    store, folder, masks = people
    a = Augment(turn, flip)
    data = ImageDataset(store, folder, res=SIZE, mask_points=mask_points_of(store, folder, size=SIZE))
    data.augment = lambda row: a
    for row, mask in enumerate(masks):
        seen = a.crop(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2), store.center[row], float(store.scale[row]), SIZE)[..., 0] > 100
        p = data[row]["mask_points"]
        assert share_on(p, seen) > 0.97
        if turn and row != 2: assert share_on(mask_points_of(store, folder, size=SIZE)(row), seen) < 0.9


def test_a_missing_mask_is_a_grid_and_nobodys_points(people, tmp_path):
    """An image without points gets the grid, in any batch, and is counted; skipping it in silence would shift all later images to others' points."""
    store, folder, masks = people
    path, points = points_file(tmp_path, store, [0, 2, 3, 4], masks)  # b.png has none
    entry = {"lspet": dict(store=str(store.path), root=str(folder), points=str(path))}
    c = ImageMeshConfig(stores=entry, method="pymaf_masks", backbone="light", hidden=32, res=SIZE, recipe="none", batch_size=5, tensorboard=False)
    b = ImageBatches(c).batch(0, 0)
    at = {int(r): k for k, r in enumerate(b["fit"])}
    assert b["points"][at[1]].isnan().all() and b["points"][[at[r] for r in (0, 2, 3, 4)]].isfinite().all()
    torch.manual_seed(0)
    net = PyMAF(load_body("free"), "light", hidden=32).eval()
    net.size = SIZE
    image = torch.randn(5, 3, SIZE, SIZE)
    with torch.no_grad(): used = net(image, b["points"]).points
    np.testing.assert_allclose(used[at[1]], grid_points(), atol=1e-6)
    assert net.empty_masks == 1 and share_on(used[at[3]], masks[3]) == share_on(used[at[2]], masks[2]) == 1
    shifted = dict(zip(range(5), points))  # row i of the file for image i
    assert [round(share_on(shifted[r], masks[r])) for r in (1, 2, 3)] == [0, 0, 0]


def test_points_in_double_precision_are_no_crash(people):
    """Points kept as float64 (as the bank is) are read in the precision of the maps; handed on as they are, grid_sample refuses them."""
    store, folder, _ = people
    p = torch.from_numpy(np.stack([mask_points_of(store, folder, size=SIZE)(r) for r in (0, 1)]))
    torch.manual_seed(0)
    net = PyMAF(load_body("free"), "light", hidden=32).eval()
    net.size, image = SIZE, torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad(): a, b = (net(image, x).final.pose6d for x in (p.float(), p.double()))
    assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="[Ee]xpected.*(Float|Double|dtype)|same dtype"):
        torch.nn.functional.grid_sample(torch.zeros(2, 4, 7, 7), p.double()[:, :, None], align_corners=True)


class Sam:
    """A stand-in that segments its prompt: remembers the box and returns it as the mask."""
    config = type("C", (), dict(vision_config=type("V", (), dict(image_size=64))))

    def parameters(self): yield torch.zeros(1)

    def __call__(self, pixel_values, multimask_output, input_boxes=None, **feed):
        x0, y0, x1, y1 = (input_boxes.view(4) / 4).round().int().tolist()
        mask = torch.full((1, 1, 1, 16, 16), -5.0)
        mask[..., y0:y1, x0:x1] = 5.0
        return type("O", (), dict(iou_scores=torch.ones(1, 1, 1), pred_masks=mask))


@pytest.mark.parametrize("place", [(40, 60, 70, 100), (150, 130, 200, 215), (10, 180, 60, 222)])
def test_the_mask_is_asked_for_with_the_persons_own_box(place):
    """The prompt is this person's box; without one nothing is guessed. The published box, the same for every image, asks for something else."""
    image, (x0, y0, x1, y1) = np.zeros((224, 224, 3), np.uint8), place
    person = np.zeros((224, 224), bool)
    person[y0:y1, x0:x1] = True
    overlap = lambda m: (m.foreground & person).sum() / (m.foreground | person).sum()
    assert overlap(mask_from_sam(Sam(), image, "a", box=place)) > 0.6
    assert overlap(mask_from_sam(Sam(), image, "a", box=REFERENCE_PROMPTS["box"])) < 0.1
    with pytest.raises(ValueError, match="needs a prompt"): mask_from_sam(Sam(), image, "a")


def test_the_grid_is_sampled_x_first():
    """The grid's first coordinate is x and varies slowest, as the weights expect; rows and columns exchanged read other places."""
    line = torch.linspace(-1, 1, 9)
    ramp = torch.stack(torch.meshgrid(line, line, indexing="xy"))[None]
    p = torch.from_numpy(grid_points())[None]
    assert torch.allclose(maf_extractor.sample_features(ramp, p)[0].T, p[0], atol=1e-6)
    assert not torch.allclose(maf_extractor.sample_features(ramp, p.flip(-1))[0].T, p[0], atol=1e-1)
    assert p.shape[1] == NUM_POINTS and (np.diff(grid_points()[:21, 0]) == 0).all()
