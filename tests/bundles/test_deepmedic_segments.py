"""Where DeepMedic's training segments are taken, and what its pathways are given."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from mrsynth.training import DiskCache, Draw, SeededDataset

SIZE = (34, 30, 26)
SEGMENT = 25  # 9 come out


@pytest.fixture(scope="module")
def scripts(deepmedic):
    return deepmedic


def subject(memory: str = "C") -> dict:
    """An image that holds each voxel's place (x, y, z, and 1 inside), and classes of unlike size, one outside."""
    places = np.stack([*np.indices(SIZE), np.ones(SIZE)]).astype(np.float32) + 1
    brain = np.zeros((1, *SIZE), np.uint8)
    brain[:, 2:-2, 2:-2, 2:-2] = 1
    label = np.zeros((1, *SIZE), np.uint8)
    label[:, 2:9, 3:9, 2:7] = 2
    label[:, 30, 20, 4] = 3
    label[:, 0, 0, 0] = 1  # outside the brain: nothing to be drawn
    volumes = {"image": places * brain, "label": label, "brain": brain}
    return {k: MetaTensor(torch.from_numpy(np.asarray(v, order=memory))) for k, v in volumes.items()} | {"subject": "A"}


def with_voxels(scripts, memory: str = "C") -> dict:
    return scripts.segments.ClassVoxelsd()(subject(memory))


@pytest.mark.parametrize("memory", ["C", "F"])
def test_places_of_a_class_are_its_voxels_inside_the_brain(scripts, memory):
    item = with_voxels(scripts, memory)
    classes = (item["label"].as_tensor() * (item["brain"].as_tensor() > 0))[0].reshape(-1)
    brain = item["brain"].as_tensor()[0].reshape(-1) > 0
    for number, places in enumerate(item["class_voxels"]):
        expected = ((classes == number) & brain).nonzero().flatten()
        assert torch.equal(places.long(), expected)
    assert [len(p) for p in item["class_voxels"]][1:] == [0, 7 * 6 * 5, 1]
    assert all(len(p) <= 9 for p in scripts.segments.ClassVoxelsd(most=9)(subject())["class_voxels"])


def test_a_cached_subject_keeps_its_places(scripts, tmp_path):
    cache = DiskCache(
        [{"subject": "A"}], Compose([lambda item: {**subject(), **item}, scripts.segments.ClassVoxelsd()]), tmp_path
    )
    made, read = cache[0], cache[0]
    assert len(list(tmp_path.iterdir())) == 1
    for a, b in zip(made["class_voxels"], read["class_voxels"], strict=True):
        assert torch.equal(a, b)


def drawn(scripts, count: int, **options) -> list[dict]:
    transform = scripts.segments.RandSegmentd(SEGMENT, **options)
    transform.set_random_state(seed=0)
    item = with_voxels(scripts)
    return [transform(item) for _ in range(count)]


def test_classes_are_drawn_equally_and_the_middle_voxel_is_of_the_class(scripts):
    middle = collections.Counter(int(item["label"][0, 4, 4, 4]) for item in drawn(scripts, 600))
    # class 1 has no voxel in the brain; class 3 has a single one
    assert set(middle) == {0, 2, 3}
    assert all(160 < number < 240 for number in middle.values())


def test_every_voxel_of_a_class_can_be_drawn(scripts):
    places = {
        tuple(item["image"][:3, 12, 12, 12].tolist()) for item in drawn(scripts, 4000) if item["label"][0, 4, 4, 4] == 2
    }
    assert len(places) == 7 * 6 * 5


def test_half_of_the_segments_are_mirrored_left_to_right(scripts):
    def along(item: dict) -> torch.Tensor:
        steps = item["image"][0].diff(dim=0)
        return steps[(item["image"][0][1:] > 0) & (item["image"][0][:-1] > 0)].unique()

    turned = [along(item).tolist() for item in drawn(scripts, 200)]
    assert all(steps in ([1.0], [-1.0]) for steps in turned)
    assert 70 < turned.count([-1.0]) < 130
    assert all(along(item).tolist() == [1.0] for item in drawn(scripts, 20, flip=0.0))
    assert all(along(item).tolist() == [-1.0] for item in drawn(scripts, 20, flip=1.0))


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_segment_is_the_same_whether_it_is_taken_at_once_or_out_of_a_block(scripts, flip):
    at_once = drawn(scripts, 12, flip=flip)
    pathways = scripts.segments.Pathwaysd(SEGMENT)
    blocks = drawn(scripts, 12, flip=flip, block=True)
    assert all(block["image"].shape == (4, 93, 93, 93) for block in blocks)
    for a, b in zip(at_once, map(pathways, blocks), strict=True):
        assert a["image"].shape == (4, 25, 25, 25) and a["label"].shape == (1, 9, 9, 9)
        assert a["context_3"].shape == (4, 19, 19, 19) and a["context_5"].shape == (4, 18, 18, 18)
        for key in ("image", "context_3", "context_5", "label"):
            assert torch.equal(a[key], b[key]), key


def test_the_network_takes_the_same_out_of_the_block(scripts):
    torch.manual_seed(0)
    network = scripts.networks.DeepMedic(feature_maps=(3,) * 8, head=(9, 9)).eval()
    block, segment = drawn(scripts, 1, block=True)[0], drawn(scripts, 1)[0]
    with torch.no_grad():
        expected = network(segment["image"][None], [segment[k][None] for k in ("context_3", "context_5")])
        torch.testing.assert_close(network(block["image"][None]), expected)


def test_beyond_the_volume_is_zero(scripts):
    volume = torch.arange(1.0, 61).view(1, 3, 4, 5)
    take = scripts.pathways.take
    padded = torch.nn.functional.pad(volume, [40] * 6)
    for first in ([-7, -2, 1], [2, 3, 4], [-20, 0, 0], [9, -3, -1], [0, 0, 0]):
        for count, step in (([3, 4, 5], 1), ([6, 5, 4], 3), ([2, 2, 2], 5)):
            x, y, z = (slice(40 + f, 40 + f + (n - 1) * step + 1, step) for f, n in zip(first, count, strict=True))
            expected = padded[:, x, y, z]
            assert torch.equal(take(volume, first, count, step), expected)
            assert torch.equal(take(volume, first, count, step, mirrored=True), expected.flip(1))


def test_intensities_are_shifted_then_scaled_alike_in_all_pathways(scripts):
    keys = ["image", "context_3"]
    transform = scripts.segments.RandIntensityd(keys, shift=0.05, scale=0.01)
    transform.set_random_state(seed=0)
    shifts, scales = [], []
    for _ in range(400):
        item = transform(
            {
                "image": torch.tensor([0.0, 1.0]).expand(4, 2)[:, None, None].clone(),
                "context_3": torch.zeros(4, 1, 1, 1),
            }
        )
        low, high = item["image"][:, 0, 0, 0], item["image"][:, 0, 0, 1]
        torch.testing.assert_close(item["context_3"][:, 0, 0, 0], low)
        scales.append(high - low)
        shifts.append(low / (high - low))
    shifts, scales = torch.stack(shifts), torch.stack(scales)
    assert float(shifts.mean()) == pytest.approx(0, abs=0.01) and float(shifts.std()) == pytest.approx(0.05, rel=0.1)
    assert float(scales.mean()) == pytest.approx(1, abs=0.002) and float(scales.std()) == pytest.approx(0.01, rel=0.1)
    # channels are drawn one by one
    assert abs(float(torch.corrcoef(shifts.T)[0, 1])) < 0.2


@pytest.mark.parametrize("augmentation", ["none", "usual"])
def test_draws_are_a_function_of_seed_epoch_and_turn(scripts, augmentation):
    def items(seed: int) -> SeededDataset:
        transform = scripts.segments.random_segments(SEGMENT, augmentation)
        return SeededDataset([{}], [lambda item: with_voxels(scripts)], transform, seed=seed)

    draws = [Draw(1, 0), Draw(2, 0), Draw(1, 0, turn=1)]
    first, again = ([items(0)[draw] for draw in order] for order in (draws, draws[::-1]))
    for a, b in zip(first, again[::-1], strict=True):
        assert set(a) == {"image", "context_3", "context_5", "label"}
        assert all(torch.equal(a[key], b[key]) for key in a)
        assert {type(value) for value in a.values()} == {torch.Tensor}
    images = [first[0], first[1], first[2], items(1)[Draw(1, 0)]]
    assert len({item["image"].sum().item() for item in images}) == 4


def test_deformed_labels_keep_their_classes(scripts):
    dataset = SeededDataset(
        [{}], [lambda item: with_voxels(scripts)], scripts.segments.random_segments(SEGMENT, "usual")
    )
    for turn in range(5):
        label = dataset[Draw(1, 0, turn=turn)]["label"]
        assert set(label.unique().tolist()) <= {0, 1, 2, 3}


def test_a_batch_is_what_the_network_is_called_with(scripts):
    dataset = SeededDataset([{}], [lambda item: with_voxels(scripts)], scripts.segments.random_segments(SEGMENT))
    draws = [Draw(1, 0, turn=turn) for turn in range(2)]
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=2, sampler=draws)))
    image, label, args, kwargs = scripts.segments.prepare_batch(batch, "cpu")
    network = scripts.networks.DeepMedic(feature_maps=(3,) * 8, head=(9, 9))
    logits = network(image, *args, **kwargs)
    assert logits.shape == (2, 4, 9, 9, 9) and label.shape == (2, 1, 9, 9, 9)
    assert torch.isfinite(scripts.optimizer.SegmentationLoss(network)(logits, label))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"segment": 16}, "segment"),
        ({"augmentation": "all"}, "augmentation"),
        ({"flip": 2}, "flip"),
        ({"shift": -1}, "shift"),
    ],
)
def test_settings_out_of_range_are_refused(scripts, refused, options, key):
    with refused(where=key):
        scripts.segments.random_segments(**options)
