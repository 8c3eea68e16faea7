"""The breasts are found from the image: all of them, nothing of the chest, and nothing where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from mrsynth.patches.mask import find_breasts
from mrsynth.phantom.breast import _STREAM, make_breast_subject
from mrsynth.phantom.breast_anatomy import Anatomy

SPACING = (3.4, 3.4, 6.0)


def noisy(signal: np.ndarray, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.hypot(signal + random.normal(0, 8, signal.shape), random.normal(0, 8, signal.shape)).astype(np.float32)


@pytest.mark.parametrize("scale", [1, 37.5])
@pytest.mark.parametrize("hanging", [0.8, 1.15])
def test_plain_shapes(shapes, hanging, scale):
    body, torso = shapes(hanging), shapes(breasts=False)
    dark = body * 800.0
    dark[30:65, 50:80] *= 0.01  # lungs
    dark *= 1 / (1 + np.arange(96)[None, :, None] / 60)  # far from the coil
    found = find_breasts(noisy(dark) * scale, SPACING)
    mounds = body & ~torso
    assert found[mounds].mean() > 0.9
    assert not found[~body].mean() > 0.01
    assert not found[:, 52:].any()
    # the resolution of the image does not matter
    fine = np.repeat(np.repeat(noisy(dark), 2, 0), 2, 1)
    again = find_breasts(fine, (1.7, 1.7, 6.0))
    assert (again[::2, ::2] != found).mean() < 0.01


def test_phantom_breasts_hold_all_lesions_and_no_organ():
    for index in (1, 4):
        images, mask, _, lesions = make_breast_subject(0, index, 96)
        found = find_breasts(images[1], (332.8 / 96, 332.8 / 96, 4.5))
        assert lesions and found[mask > 0].mean() > 0.97
        anatomy = Anatomy(np.random.default_rng([0, index, _STREAM]))
        at = anatomy.positions(anatomy.slab(96))
        torso = anatomy.outline(at)[1]
        under = anatomy.under_fat(at.reshape(3, -1), torso.ravel()).reshape(torso.shape)
        breasts = np.minimum(*[breast.outline(at) for breast in anatomy.breasts]) < -3
        assert found[breasts & (under < -12)].mean() > 0.93
        assert found[under > 8].mean() < 0.005  # organs, ribs, most of the muscle
        assert (found & (under > 0)).sum() < 0.06 * found.sum()


def test_no_breasts(shapes, refused):
    images = {
        "a torso alone": shapes(breasts=False) * 800.0,
        "a torso that lies on its back": shapes()[:, ::-1] * 800.0,
        "air": np.zeros((96, 96, 8)),
    }
    for image in images.values():
        with refused(found="no breast", where="pre.nii.gz"):
            find_breasts(noisy(image), SPACING, "pre.nii.gz")
    with refused(found="no breast"):
        find_breasts(np.zeros((96, 96, 8), np.float32), SPACING)
