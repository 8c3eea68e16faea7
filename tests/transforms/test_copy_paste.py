"""A donor's tumor voxels in a recipient's image: untouched elsewhere, as bright as the recipient's brain would be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.transforms import CopyPasted, soften, transplant
from mrsynth.transforms.copy_paste import Volumes, copy_paste


def volumes(subject, **changes) -> Volumes:
    return Volumes(subject.image, subject.label, subject.tissue > 0, subject.affine)._replace(**changes)


@pytest.fixture(scope="module")
def pair(make_brain) -> tuple[Volumes, Volumes]:
    """Recipient and donor, with tumors on either side."""
    return volumes(make_brain(1)), volumes(make_brain(2, scale=1.05))


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("edge", [0.0, 2.0, 6.0])
def test_far_from_the_donors_tumor_and_on_the_recipients_own_nothing_changes(pair, align, edge):
    recipient, donor = pair
    image, _ = copy_paste(recipient, donor, align, edge)
    transplanted, _ = transplant(donor.label, donor.affine, donor.brain, recipient.brain, recipient.affine, align)
    changed = (image != recipient.image).any(axis=0)
    assert transplanted.any() and changed[transplanted > 0].mean() > 0.95
    assert not changed[soften(transplanted > 0, recipient.affine, edge) == 0].any()
    assert not changed[(recipient.label > 0) & (transplanted == 0)].any()
    assert not image[:, ~recipient.brain].any()
    assert edge == 0 or changed[transplanted == 0].any()


def test_the_label_is_the_union_and_the_donors_where_they_overlap(pair):
    recipient, donor = pair
    transplanted, _ = transplant(donor.label, donor.affine, donor.brain, recipient.brain, recipient.affine, True)
    _, label = copy_paste(recipient, donor, True)
    assert label.dtype == np.uint8
    assert np.array_equal(label[transplanted > 0], transplanted[transplanted > 0])
    assert np.array_equal(label[transplanted == 0], recipient.label[transplanted == 0])
    everywhere = np.where(recipient.brain, 2, 0)
    everywhere[:, :, ::2] = 0  # something has to be healthy
    _, over = copy_paste(recipient._replace(label=everywhere), donor, True)
    assert np.array_equal(over, np.where(transplanted > 0, transplanted, everywhere)) and set(
        np.unique(transplanted)
    ) == {0, 1, 2, 4}


def test_a_subject_pasted_into_itself_is_itself(pair):
    recipient, _ = pair
    image, label = copy_paste(recipient, recipient, True)
    np.testing.assert_allclose(image, recipient.image, atol=0.05)
    assert np.array_equal(label, recipient.label)


def test_the_donors_scanner_makes_no_difference(pair):
    """Another scale of the donor's intensities, sequence by sequence, is undone by the matching."""
    recipient, donor = pair
    gain, shift = np.array([0.3, 2.0, 7.0, 1.0])[:, None, None, None], np.array([0, 50, 300, 9])[:, None, None, None]
    rescaled = np.where(donor.brain, donor.image * gain + shift, 0)
    plain, _ = copy_paste(recipient, donor, True)
    other, _ = copy_paste(recipient, donor._replace(image=rescaled), True)
    np.testing.assert_allclose(other, plain, atol=0.1)


def test_contrast_of_the_tumor_is_the_donors(pair):
    recipient, donor = pair
    image, _ = copy_paste(recipient, donor, True)
    transplanted, _ = transplant(donor.label, donor.affine, donor.brain, recipient.brain, recipient.affine, True)
    for value in (2, 4):
        here, there = image[:, transplanted == value].mean(axis=1), donor.image[:, donor.label == value].mean(axis=1)
        # both subjects' tissues have the same levels; a voxel of 6 mm mixes what lies beside it
        np.testing.assert_allclose(here, there, rtol=0.2)


def test_the_darkness_around_the_donors_brain_is_not_pasted(make_brain):
    recipient, donor = volumes(make_brain(1)), volumes(make_brain(2))
    rim = donor.brain & (np.indices(donor.brain.shape)[0] > 17)  # a tumor at the very surface
    label = np.where(rim, 2, 0).astype(np.uint8)
    bright = donor._replace(image=np.where(rim, 700, donor.image), label=label)
    image, union = copy_paste(recipient._replace(label=np.zeros_like(label)), bright, True, edge=6.0)
    assert (union > 0).any()
    assert image[:, union > 0].min() > 400


def test_a_finer_recipient_gets_the_tumor_at_the_same_place(make_brain):
    recipient, donor = volumes(make_brain(1)), volumes(make_brain(2))
    twice = [np.repeat(np.repeat(np.repeat(v, 2, -1), 2, -2), 2, -3) for v in recipient[:3]]
    affine = recipient.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = recipient.affine[:3, :3] @ np.full(3, -0.25) + recipient.affine[:3, 3]
    coarse, _ = copy_paste(recipient, donor, True)
    fine, label = copy_paste(Volumes(*twice, affine), donor, True)
    averaged = fine.reshape(4, 24, 2, 24, 2, 20, 2).mean(axis=(2, 4, 6))
    assert label.shape == (48, 48, 40)
    changed = (coarse != recipient.image)[1]
    assert np.corrcoef(averaged[1][changed], coarse[1][changed])[0, 1] > 0.9


@pytest.mark.parametrize("spacing", [1.0, 2.0, 6.0])
def test_a_soft_edge_is_whole_on_the_mask_and_ends(spacing):
    mask = np.zeros((30, 30, 30), bool)
    mask[10:20, 10:20, 10:20] = True
    affine = np.diag([-spacing, -spacing, spacing, 1])
    weight = soften(mask, affine, 2.0)
    assert (weight[mask] == 1).all() and weight.min() == 0 and weight.max() == 1
    assert (np.diff(weight[15, 15, 19:]) <= 0).all()
    reach = 6 / spacing + 1
    far = np.indices(mask.shape)[2] > 19 + reach
    assert not weight[far].any()
    assert np.array_equal(soften(mask, affine, 0), mask)
    if spacing == 1:
        assert 0.3 < weight[15, 15, 21] < 0.9  # 2 mm from the edge's voxels


def item(subject: Volumes, name: str) -> dict:
    arrays = {"image": subject.image, "label": subject.label[None], "brain": subject.brain[None].astype(np.uint8)}
    return {k: MetaTensor(torch.from_numpy(v), affine=subject.affine) for k, v in arrays.items()} | {"subject": name}


def test_the_transform_replaces_image_and_label_and_leaves_its_inputs_alone(pair):
    recipient, donor = item(pair[0], "A"), item(pair[1], "B")
    before = {k: v.clone() for k, v in recipient.items() if k != "subject"}
    made = CopyPasted(align=True, edge=2.0)({**recipient, "donor": donor})
    image, label = copy_paste(*pair, True, 2.0)
    assert np.array_equal(made["image"].numpy(), image) and np.array_equal(made["label"].numpy()[0], label)
    assert "donor" not in made and torch.equal(made["image"].affine, recipient["image"].affine)
    assert all(torch.equal(recipient[k].as_tensor(), v.as_tensor()) for k, v in before.items())


def test_a_label_that_is_already_laid_is_taken(pair):
    recipient = item(pair[0], "A")
    transplanted = np.zeros_like(pair[0].label)
    transplanted[12, 12, 10] = 4
    recipient["transplanted"] = MetaTensor(torch.from_numpy(transplanted[None]), affine=pair[0].affine)
    label = CopyPasted(edge=0)({**recipient, "donor": item(pair[1], "B")})["label"].numpy()[0]
    assert np.array_equal(label, np.where(transplanted > 0, transplanted, pair[0].label))


@pytest.mark.parametrize("edge", [-1.0, "2", True, float("nan")])
def test_an_edge_that_is_no_length_is_refused(refused, edge):
    with refused(expected="millimeters", where="edge"):
        CopyPasted(edge=edge)


def test_a_constant_sequence_is_refused(pair, refused):
    recipient, donor = pair
    flat = donor.image.copy()
    flat[2][donor.brain] = 7
    with refused(expected="contrast", where="channel 2"):
        copy_paste(recipient, donor._replace(image=flat), True)
