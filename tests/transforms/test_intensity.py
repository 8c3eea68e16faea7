"""Brain mask, intensities in [-1, 1], and intensities of mean 0 and standard deviation 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.transforms import BrainMaskd, NormalizeInsideBraind, RescaleInsideBraind


@pytest.fixture
def masked(make_brain) -> dict:
    subject = make_brain(0)
    return BrainMaskd()({"image": MetaTensor(torch.from_numpy(subject.image), affine=subject.affine), "subject": "A"})


def test_the_brain_is_where_any_sequence_is_not_zero(make_brain):
    subject = make_brain(0)
    image = subject.image.copy()
    holes = np.argwhere(subject.tissue > 0)[:5]
    image[0][tuple(holes.T)] = 0  # zero in one sequence only
    masked = BrainMaskd()({"image": MetaTensor(torch.from_numpy(image), affine=subject.affine)})
    np.testing.assert_array_equal(masked["brain"].numpy()[0], subject.tissue > 0)
    assert masked["brain"].dtype == torch.uint8
    np.testing.assert_array_equal(masked["brain"].affine, subject.affine)


@pytest.mark.parametrize(("value", "said"), [(0, "zero everywhere"), (5, "no voxel that is zero")])
def test_an_image_without_a_brain_or_with_its_skull_is_refused(refused, value, said):
    image = MetaTensor(torch.full((4, 6, 6, 6), value), meta={"filename_or_obj": "somewhere/t1.nii.gz"})
    with refused(expected="skull-stripped", found=said, where="t1.nii.gz"):
        BrainMaskd()({"image": image})


@pytest.mark.parametrize("mode", ["percentiles", "minmax"])
def test_values_lie_between_minus_one_and_one_and_background_is_exactly_minus_one(masked, mode):
    scaled = RescaleInsideBraind(mode=mode)(masked)["image"].as_tensor()
    outside = masked["brain"].as_tensor().expand(4, -1, -1, -1) == 0
    assert scaled.dtype == torch.float32
    assert scaled.min() >= -1 and scaled.max() <= 1
    assert (scaled[outside] == -1).all()
    assert all(channel.max() > 0.9999 for channel in scaled)


@pytest.mark.parametrize("mode", ["percentiles", "minmax"])
def test_order_of_intensities_is_kept(masked, mode):
    scaled = RescaleInsideBraind(mode=mode)(masked)["image"].numpy()
    brain = masked["brain"].numpy()[0] > 0
    for before, after in zip(masked["image"].numpy()[:, brain], scaled[:, brain], strict=True):
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()


def test_a_hot_voxel_moves_the_brain_under_minmax_but_not_under_percentiles(masked):
    hot = masked["image"].clone()
    x, y, z = np.argwhere(masked["brain"].numpy()[0])[100]
    hot[0, x, y, z] = 30000
    medians = {}
    for mode in ("percentiles", "minmax"):
        for name, image in (("as it was", masked["image"]), ("hot", hot)):
            scaled = RescaleInsideBraind(mode=mode)({**masked, "image": image})["image"].as_tensor()[0]
            medians[mode, name] = float(scaled[masked["brain"].as_tensor()[0] > 0].median())
    assert abs(medians["percentiles", "hot"] - medians["percentiles", "as it was"]) < 0.01
    assert medians["minmax", "hot"] < -0.9 < medians["minmax", "as it was"]


def test_minmax_maps_the_volumes_ends_linearly(masked):
    scaled = RescaleInsideBraind(mode="minmax")(masked)["image"].numpy()
    image, brain = masked["image"].numpy().astype(np.float32), masked["brain"].numpy()[0] > 0
    expected = image[2] / image[2].max() * 2 - 1  # the least value is the background's 0
    np.testing.assert_allclose(scaled[2][brain], expected[brain], atol=1e-5)


def test_what_lies_beyond_the_percentiles_is_clipped(masked):
    scaled = RescaleInsideBraind(percentiles=(10, 90))(masked)["image"].numpy()
    inside = scaled[:, masked["brain"].numpy()[0] > 0]
    assert np.allclose((inside == 1).mean(axis=1), 0.1, atol=0.01)
    assert np.allclose((inside == -1).mean(axis=1), 0.1, atol=0.01)


def test_a_sequence_without_contrast_is_refused(masked, refused):
    masked["image"][2] = (masked["brain"].as_tensor()[0] * 9).to(masked["image"].dtype)
    with refused(found="channel 2 is 9", where="A", do="leave the subject out"):
        RescaleInsideBraind()(masked)


def test_an_unknown_mode_is_refused(refused):
    with refused(expected="percentiles or minmax", found="zscore"):
        RescaleInsideBraind(mode="zscore")


def test_normalized_inside_the_brain_and_exactly_zero_outside(masked):
    normalized = NormalizeInsideBraind()(masked)["image"]
    brain = masked["brain"].numpy()[0] > 0
    inside = normalized.numpy()[:, brain].astype(np.float64)
    np.testing.assert_allclose(inside.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(inside.std(axis=1), 1, atol=1e-5)
    assert normalized.dtype == torch.float32 and not normalized.numpy()[:, ~brain].any()
    assert torch.equal(normalized.affine, masked["image"].affine)


def test_normalizing_forgets_scale_and_shift_and_what_lies_outside_the_brain(masked):
    brain = masked["brain"].as_tensor() > 0
    expected = NormalizeInsideBraind()(masked)["image"].as_tensor()
    changed = masked["image"].as_tensor().float() * torch.tensor([2.0, 0.1, 30.0, 1.0]).view(4, 1, 1, 1) + 500
    changed = MetaTensor(torch.where(brain, changed, -7.0), meta=dict(masked["image"].meta))
    again = NormalizeInsideBraind()({**masked, "image": changed})["image"].as_tensor()
    assert torch.allclose(again, expected, atol=1e-4)


def test_normalizing_counts_a_voxel_of_the_brain_that_is_zero_in_one_sequence(masked):
    brain = masked["brain"].as_tensor()[0] > 0
    hole = masked["image"].clone()
    places = brain.nonzero()[:50]
    hole[0][tuple(places.T)] = 0
    inside = NormalizeInsideBraind()({**masked, "image": hole})["image"].as_tensor()[0][brain]
    assert abs(float(inside.double().mean())) < 1e-5 and float(inside.min()) < -1


@pytest.mark.parametrize(("value", "said"), [(9.0, "0.0 in channel 2"), (float("nan"), "nan in channel 2")])
def test_a_sequence_that_cannot_be_normalized_is_refused(masked, refused, value, said):
    image = masked["image"].float()
    image[2] = value
    with refused(found=said, where="A", do="leave the subject out"):
        NormalizeInsideBraind()({**masked, "image": image})
