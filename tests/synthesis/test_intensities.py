"""The int16 of a file: invertible, zero outside the brain, and back on the native grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from mrsynth.synthesis import RestoreImaged, from_int16, mapping, to_int16
from mrsynth.transforms import BrainMaskd, CropResampled, RescaleInsideBraind


def test_the_mapping_is_inverted_to_half_a_step():
    image = np.linspace(-1, 1, 4001, dtype=np.float32).reshape(1, -1, 1, 1)
    written = to_int16(image, np.ones((4001, 1, 1), bool))
    assert (written.min(), written.max()) == tuple(mapping()["brain"])
    assert np.abs(from_int16(written) - image).max() <= 0.5 * 2 / 999 + 1e-6


def test_outside_the_brain_is_zero_and_inside_never():
    image = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 6, 6, 6))
    brain = np.random.default_rng(1).random((6, 6, 6)) < 0.5
    written = to_int16(image, brain)
    assert written.dtype == np.int16
    assert np.array_equal((written != 0).all(axis=0), brain) and np.array_equal((written != 0).any(axis=0), brain)
    assert (from_int16(written)[:, ~brain] == -1).all()


def item(make_brain, crop, size=(20, 20, 16)) -> dict:
    """A subject on a training grid, whose own image stands for the network's."""
    subject = make_brain(3)
    image = MetaTensor(torch.from_numpy(subject.image), affine=torch.from_numpy(subject.affine))
    data = BrainMaskd()({"image": image})
    data["native_brain"] = data["brain"].clone()
    grid = CropResampled(["image", "brain"], size, crop, interpolation=["linear", "nearest"])
    data = RescaleInsideBraind()(grid(data))
    return data | {"pred": data["image"].as_tensor().clone()}


def test_the_native_image_has_the_native_grid_and_brain(make_brain):
    data = item(make_brain, "brain")
    brain = data["native_brain"].numpy()[0] > 0
    pred = RestoreImaged("native")(data)["pred"]
    assert pred.dtype == torch.int16 and tuple(pred.shape) == (4, *brain.shape)
    assert np.allclose(pred.affine, data["native"]["affine"])
    assert np.array_equal((pred.numpy() != 0).all(axis=0), brain)
    inner = ndimage.binary_erosion(brain, iterations=2)
    for truth, back in zip(make_brain(3).image, pred.numpy(), strict=True):  # there and back again: the same picture
        likeness = {shift: np.corrcoef(truth[inner], np.roll(back, shift, 0)[inner])[0, 1] for shift in (-1, 0, 1)}
        assert likeness[0] > 0.85 and max(likeness, key=likeness.get) == 0


def test_the_background_does_not_darken_the_rim(make_brain):
    data = item(make_brain, "brain")
    data["pred"] = torch.where(data["brain"].as_tensor() > 0, 0.5, -1.0).expand(4, -1, -1, -1)
    pred = RestoreImaged("native")(data)["pred"].numpy()
    assert np.unique(pred).tolist() == [0, to_int16(np.full((1, 1, 1, 1), 0.5), np.ones((1, 1, 1), bool)).item()]


def test_where_the_training_grid_does_not_reach_nothing_is_written(make_brain):
    data = item(make_brain, [4, 14])
    brain = data["native_brain"].numpy()[0] > 0
    pred = RestoreImaged("native")(data)["pred"].numpy()
    brain[:, :, :4] = brain[:, :, 14:] = False
    assert np.array_equal((pred != 0).all(axis=0), brain)


def test_on_the_training_grid_nothing_is_resampled(make_brain):
    data = item(make_brain, "brain")
    brain = data["brain"].numpy()[0] > 0
    pred = RestoreImaged("training")(data)["pred"]
    assert np.array_equal(pred.numpy(), to_int16(data["pred"].numpy(), brain))
    assert np.allclose(pred.affine, data["image"].affine)


def test_an_unknown_grid_is_refused(refused):
    with refused(found="fine"):
        RestoreImaged("fine")


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_the_sidecar_says_how_to_invert(value):
    written = to_int16(np.full((1, 1, 1, 1), value), np.ones((1, 1, 1), bool)).item()
    back = eval(mapping()["inverse"].removeprefix("v = "), {"n": written})
    assert abs(back - value) < 2e-3
