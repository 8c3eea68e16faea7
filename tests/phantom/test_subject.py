"""What one phantom subject promises: header, labels, background, contrast, tumor, and that a seed is enough."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.phantom import make_subject
from mrsynth.phantom.anatomy import Anatomy, load_template
from mrsynth.phantom.tumor import choose_center, draw_plan, grow, push

SEED = 11


@lru_cache(maxsize=8)
def subject(index: int, spacing: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return make_subject(SEED, index, spacing)


@lru_cache(maxsize=2)
def parts(index: int):
    """One subject before it is scanned: anatomy, plan, brain, tumor."""
    anatomy = Anatomy(np.random.default_rng([SEED, index, 0]))
    plan = draw_plan(np.random.default_rng([SEED, index, 1]))
    center = choose_center(anatomy, plan)
    brain = anatomy.tissue(*push(anatomy, plan, center))
    return anatomy, plan, center, brain, grow(anatomy, brain, plan, center)


@pytest.mark.parametrize(
    ("spacing", "shape"), [(1, (240, 240, 155)), (2.0, (120, 120, 78)), (3, (80, 80, 52)), (4, (60, 60, 39))]
)
def test_grid_covers_the_brats_field_of_view(spacing, shape):
    image, label, affine = subject(0, spacing)
    assert image.shape == (4, *shape) and image.dtype == np.int16
    assert label.shape == shape and label.dtype == np.uint8
    np.testing.assert_array_equal(np.diag(affine), [-spacing, -spacing, spacing, 1])
    # the outer faces of the first voxel stand where those of BraTS's first voxel stand
    np.testing.assert_allclose(affine @ [-0.5, -0.5, -0.5, 1], [0.5, 239.5, -0.5, 1])


@pytest.mark.slow
def test_background_is_zero_and_brain_is_not():
    for index in range(3):
        image, label, _ = subject(index)
        brain = image[0] > 0
        assert ((image > 0) == brain).all() and (image >= 0).all()
        assert set(np.unique(label)) <= {0, 1, 2, 4}
        assert not label[~brain].any()
        assert ndimage.label(brain, ndimage.generate_binary_structure(3, 3))[1] == 1


@pytest.mark.slow
def test_same_seed_same_voxels_other_seed_others():
    image, label, _ = subject(0)
    again, label_again, _ = make_subject(SEED, 0, 2.0)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)
    for other in (make_subject(SEED + 1, 0, 2.0), subject(1)):
        assert ((other[0][0] > 0) != (image[0] > 0)).mean() > 0.01
        assert (other[1] != label).any()


def test_same_anatomy_at_every_spacing():
    """A coarse subject is the fine one, averaged: labels overlap, images correlate."""
    fine, fine_label, _ = subject(0, 1)
    coarse, coarse_label, _ = subject(0, 3)
    blocks = fine[:, :, :, :153].reshape(4, 80, 3, 80, 3, 51, 3).mean(axis=(2, 4, 6))
    both = (blocks[0] > 0) & (coarse[0, :, :, :51] > 0)
    for channel in range(4):
        assert np.corrcoef(blocks[channel][both], coarse[channel, :, :, :51][both])[0, 1] > 0.9
    share = (fine_label[:, :, :153] > 0).reshape(80, 3, 80, 3, 51, 3).mean(axis=(1, 3, 5))
    ours, theirs = share >= 0.5, coarse_label[:, :, :51] > 0
    assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.98


def healthy_signal(index: int) -> dict[str, dict[str, float]]:
    """Median signal of nearly pure tissue away from the tumor, at 1 mm."""
    image, _, _ = subject(index, 1)
    *_, brain, tumor = parts(index)
    where = np.argwhere(brain.inside) + brain.low
    clear = (tumor.label == 0) & (tumor.edema < 0.01) & (brain.vessel < 0.01) & (brain.depth > 4)
    tissue = {"csf": brain.csf, "gray": brain.gray, "white": brain.white}
    return {
        name: {
            kind: float(np.median(image[c][tuple(where[clear & (share > 0.97)].T)])) for kind, share in tissue.items()
        }
        for c, name in enumerate(SEQUENCES)
    }


def test_contrast_is_ordered_as_in_each_sequence():
    signal = healthy_signal(0)
    for name in ("t1", "t1ce"):
        assert signal[name]["csf"] < signal[name]["gray"] < signal[name]["white"]
    assert signal["t2"]["white"] < signal["t2"]["gray"] < 0.7 * signal["t2"]["csf"]
    assert signal["flair"]["csf"] < signal["flair"]["white"] < signal["flair"]["gray"]


@pytest.mark.slow
def test_tumor_signal():
    for index in range(4):
        image, label, _ = subject(index)
        t1ce, t2, flair = (image[SEQUENCES.index(name)].astype(float) for name in ("t1ce", "t2", "flair"))
        brain = (image[0] > 0) & (label == 0)
        if (label == 4).sum() > 50:  # brighter than what lies within 6 mm of it on either side
            around = ndimage.binary_dilation(label == 4, iterations=3) & (label != 4) & (image[0] > 0)
            assert np.median(t1ce[label == 4]) > 1.3 * np.median(t1ce[around])
        assert np.median(flair[label == 2]) > 1.2 * np.median(flair[brain])
        assert np.median(t2[label == 2]) > 1.2 * np.median(t2[brain])


def test_edema_follows_white_matter():
    for index in (0, 1):
        *_, brain, tumor = parts(index)
        edema = tumor.label == 2
        assert brain.white[edema].mean() > 0.6
        assert brain.white[edema].mean() > 1.4 * brain.white.mean()
        assert brain.csf[edema].mean() < brain.csf.mean()


def test_compartments_have_the_volumes_planned():
    _, plan, _, _, tumor = parts(0)
    whole = (tumor.label > 0).sum() / 1000
    core = np.isin(tumor.label, (1, 4)).sum() / 1000
    assert whole == pytest.approx(plan.whole_ml, rel=0.02)
    assert core / whole == pytest.approx(plan.core_share, rel=0.03)
    assert (tumor.label == 4).sum() / 1000 / core == pytest.approx(plan.enhancing_share, rel=0.03)


def test_mass_effect_pushes_tissue_away_and_presses_ventricles():
    anatomy, plan, center, _, _ = parts(0)
    displacement, swelling = push(anatomy, plan, center)
    arm = anatomy.head - center[:, None]
    outward = (displacement * arm).sum(0)
    length = np.linalg.norm(displacement, axis=0)
    assert (outward >= 0).all()
    assert 3 < length.max() < plan.core_radius
    assert length[anatomy.depth < 1].max() < 1  # the skull stays
    assert swelling.min() >= 0 and swelling.max() <= 1
    # a core beside a ventricle leaves less of it on its side, and moves the midline away
    template = load_template()
    beside = np.argmin(np.abs(anatomy.undisturbed - np.array([[32.0], [-10.0], [24.0]])).sum(0))
    before = anatomy.tissue()
    after = anatomy.tissue(*push(anatomy, plan, anatomy.head[:, beside]))
    lateral = (before.cap > 0.99) & (np.abs(anatomy.undisturbed[0]) < 40)
    pressed = (after.cap > 0.99) & (anatomy.undisturbed[0] > 0)
    assert (pressed & (after.csf > 0.5)).sum() < (lateral & (anatomy.undisturbed[0] > 0) & (before.csf > 0.5)).sum()
    midline = np.abs(after.template[0]) < 1
    level = midline & (np.abs(after.template[1] + 10) < 8) & (np.abs(after.template[2] - 24) < 10)
    assert anatomy.undisturbed[0, level].mean() < -1
    assert template.size.shape == (3,)


@pytest.mark.parametrize(
    "wrong", [{"spacing": 1.5}, {"spacing": 0}, {"spacing": -1}, {"spacing": "2"}, {"seed": -1}, {"index": -1}]
)
def test_refuses(wrong):
    with pytest.raises(UserError, match="expected"):
        make_subject(**({"seed": 0, "index": 0, "spacing": 2} | wrong))
