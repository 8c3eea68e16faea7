"""The training grid and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.transforms import CropResampled, bounding_box, to_native

SHAPE = (24, 24, 20)
AFFINE = np.array([[-6.0, 0, 0, 0], [0, -6.0, 0, 138], [0, 0, 6.0, 0], [0, 0, 0, 1]])
TURNED = AFFINE @ np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def item(subject, affine: np.ndarray = AFFINE) -> dict:
    def volume(array):
        return MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(affine))

    mask = (subject.image[:1] != 0).astype(np.uint8)
    return {"image": volume(subject.image), "label": volume(subject.label[None]), "brain": volume(mask), "subject": "A"}


def back(volume: MetaTensor, native: dict, interpolation: str = "nearest", fill: float = 0.0):
    return to_native(
        volume.numpy(), volume.affine.numpy(), native["shape"], native["affine"].numpy(), interpolation, fill
    )


@pytest.mark.parametrize("affine", [AFFINE, TURNED], ids=["straight", "turned"])
@pytest.mark.parametrize("crop", ["none", [4, 16]])
def test_each_voxel_shows_the_world_point_that_its_affine_names(affine, crop):
    index = np.indices(SHAPE).reshape(3, -1)
    points = (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *SHAPE).astype(np.float32)
    ramp = {"image": MetaTensor(torch.from_numpy(points), affine=torch.from_numpy(affine))}
    size = (16, 24, 8)
    cropped = CropResampled("image", size, crop, interpolation="linear")(ramp)["image"]
    new = cropped.affine.numpy()
    named = (new[:3, :3] @ np.indices(size).reshape(3, -1) + new[:3, 3:]).reshape(3, *size)
    # where the volume ends, smoothing sees only one side
    inner = (slice(None), slice(3, -3), slice(3, -3), slice(2, -2))
    np.testing.assert_allclose(cropped.numpy()[inner], named[inner], atol=0.05)


def test_a_slab_leaves_the_plane_untouched_and_keeps_its_slices(make_brain):
    before = item(make_brain(1))
    after = CropResampled(["image", "label"], (24, 24, 12), [4, 16])(before)
    assert torch.equal(after["image"].as_tensor(), before["image"].as_tensor()[..., 4:16])
    assert torch.equal(after["label"].as_tensor(), before["label"].as_tensor()[..., 4:16])
    fewer = CropResampled(["image", "label"], (24, 24, 8), [4, 16])(before)
    # nearest: each of the 8 slices is one of the 12, in order
    slices = before["image"].as_tensor()[..., 4:16]
    matches = [
        [k for k in range(12) if torch.equal(fewer["image"].as_tensor()[..., i], slices[..., k])] for i in range(8)
    ]
    assert all(matches) and [m[0] for m in matches] == sorted(m[0] for m in matches)
    assert fewer["image"].affine[2, 2] == 6 * 12 / 8


def test_the_brain_box_holds_the_whole_brain_with_a_margin(make_brain):
    before = item(make_brain(2))
    after = CropResampled(["image", "label", "brain"], (32, 32, 32), "brain", margin=0.1)(before)
    low, high = bounding_box(after["brain"].numpy()[0] > 0)
    # a margin of a tenth on either side is a twelfth of the new grid
    assert (low >= 2).all() and (low <= 4).all() and (high >= 28).all() and (high <= 30).all()


def test_native_grid_is_kept_in_the_item(make_brain):
    before = item(make_brain(0))
    native = CropResampled(["image"], (8, 8, 8))(before)["native"]
    assert tuple(native["shape"]) == SHAPE
    np.testing.assert_array_equal(native["affine"], AFFINE)


def test_labels_keep_their_values_and_type_whatever_the_grid(make_brain):
    before = item(make_brain(3))
    keys = ["image", "label", "brain"]
    after = CropResampled(keys, (17, 11, 13), "brain", interpolation=["linear", "nearest", "nearest"])(before)
    assert set(after["label"].unique().tolist()) <= {0, 1, 2, 4} and after["label"].dtype == torch.uint8
    assert set(after["brain"].unique().tolist()) == {0, 1}
    assert all(after[key].shape[1:] == (17, 11, 13) for key in keys)
    assert all(torch.equal(after[key].affine, after["image"].affine) for key in keys)


@pytest.mark.parametrize("affine", [AFFINE, TURNED], ids=["straight", "turned"])
@pytest.mark.parametrize("crop", ["slab", "brain"])
def test_back_on_the_native_grid_a_label_is_what_it_was(make_brain, crop, affine):
    before = item(make_brain(4), affine)
    if crop == "slab":
        size, box = (24, 24, 12), (np.array([0, 0, 4]), np.array([24, 24, 16]))
        cropping = CropResampled(["label", "brain"], size, [4, 16])
    else:
        box = bounding_box(before["brain"].numpy()[0] > 0)
        size = tuple(box[1] - box[0])  # so the spacing stays
        cropping = CropResampled(["label", "brain"], size, "brain", margin=0.0)
    after = cropping(before)
    label, covered = back(after["label"], after["native"])
    expected = np.zeros(SHAPE, bool)
    expected[tuple(slice(a, b) for a, b in zip(*box, strict=True))] = True
    np.testing.assert_array_equal(covered, expected)
    np.testing.assert_array_equal(label[0][covered], before["label"].numpy()[0][covered])
    assert not label[0][~covered].any() and label.dtype == np.uint8


def test_covered_voxels_are_those_whose_center_lies_in_the_box(make_brain):
    before = item(make_brain(5))
    after = CropResampled(["label", "brain"], (10, 9, 8), "brain", margin=0.04)(before)
    _, covered = back(after["label"], after["native"])
    low, high = bounding_box(before["brain"].numpy()[0] > 0)
    pad = 0.04 * (high - low)
    inside = np.ones(SHAPE, bool)
    for axis, line in enumerate(np.indices(SHAPE)):
        inside &= (line > low[axis] - pad[axis] - 0.5) & (line < high[axis] + pad[axis] - 0.5)
    np.testing.assert_array_equal(covered, inside)


def test_images_come_back_close_and_filled_outside(make_brain):
    before = item(make_brain(6))
    after = CropResampled(["image", "brain"], (24, 24, 16), "brain", interpolation=["linear", "nearest"])(before)
    image, covered = back(after["image"], after["native"], "linear", fill=-7.0)
    assert (image[:, ~covered] == -7).all()
    truth, brain = before["image"].numpy(), before["brain"].numpy()[0] > 0
    assert np.corrcoef(image[:, brain].ravel(), truth[:, brain].ravel())[0, 1] > 0.8


@pytest.mark.parametrize("crop", [[-1, 5], [4, 21], [9, 9]])
def test_slices_outside_the_volume_are_refused(make_brain, refused, crop):
    with refused(expected="inside the volume", found="20 slices", where="A", do="crop"):
        CropResampled(["image"], (8, 8, 8), crop)(item(make_brain(0)))


def test_wrong_settings_are_refused(refused):
    with refused(where="spatial_size"):
        CropResampled(["image"], (8, 8))
    with refused(where="crop", found="skull"):
        CropResampled(["image"], (8, 8, 8), "skull")


@pytest.mark.parametrize("affine", [AFFINE, TURNED], ids=["straight", "turned"])
@pytest.mark.parametrize("crop", ["none", "brain", [4, 16]])
def test_without_a_size_the_native_voxels_of_the_box_are_kept(make_brain, crop, affine):
    before = item(make_brain(7), affine)
    keys = ["image", "label", "brain"]
    after = CropResampled(keys, None, crop, margin=0.1, interpolation=["linear", "nearest", "nearest"])(before)
    start = np.linalg.solve(affine, after["image"].affine.numpy())[:3, 3].round().astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(start, after["image"].shape[1:], strict=True))
    for key in keys:
        assert torch.equal(after[key].as_tensor(), before[key].as_tensor()[(slice(None), *box)]), key
        assert after[key].dtype == before[key].dtype
        np.testing.assert_allclose(after[key].affine[:3, :3], affine[:3, :3], atol=1e-9)
    if crop == "brain":  # the whole brain and a margin, no larger than the volume
        assert int(after["brain"].sum()) == int(before["brain"].sum())
        assert any(n < whole for n, whole in zip(after["image"].shape[1:], SHAPE, strict=True))
    label, covered = back(after["label"], after["native"])
    assert np.array_equal(label[0][covered], before["label"].numpy()[0][covered])


def test_the_margin_ends_where_the_volume_does(make_brain):
    before = item(make_brain(7))
    after = CropResampled(["image", "brain"], None, "brain", margin=5.0)(before)
    assert after["image"].shape[1:] == SHAPE and np.allclose(after["image"].affine, AFFINE)


def test_what_has_the_size_already_is_left_as_it_is(make_brain):
    before = item(make_brain(8))
    ready = CropResampled(["image", "label", "brain"], SHAPE, "brain", keep_ready=True)(before)
    for key in ("image", "label", "brain"):
        assert torch.equal(ready[key].as_tensor(), before[key].as_tensor())
        assert torch.equal(ready[key].affine, before[key].affine)
    assert tuple(ready["native"]["shape"]) == SHAPE
    asked = CropResampled(["image", "brain"], SHAPE, "brain")(before)["image"]  # without it the box is resampled
    assert not torch.equal(asked.as_tensor(), before["image"].as_tensor())
    other = CropResampled(["image", "brain"], (12, 12, 10), "brain", keep_ready=True)(before)["image"]
    assert other.shape[1:] == (12, 12, 10)
