"""The tumor of one subject in the brain of another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.transforms import CopyPasted, TumorTransplantd, bounding_box, transplant


def item(subject, name: str) -> dict:
    brain = (subject.image[:1] != 0).astype(np.uint8)
    volumes = {"label": subject.label[None], "brain": brain}
    return {k: MetaTensor(torch.from_numpy(v), affine=subject.affine) for k, v in volumes.items()} | {"subject": name}


@pytest.fixture(scope="module")
def pool(make_brain) -> list[dict]:
    return [item(make_brain(seed), f"S{seed}") for seed in range(6)]


def arrays(subject: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, affine and brain of an item."""
    return subject["label"].numpy()[0], subject["label"].affine.numpy(), subject["brain"].numpy()[0] > 0


def transplanted(donor, recipient, align: bool):
    return transplant(donor.label, donor.affine, donor.tissue > 0, recipient.tissue > 0, recipient.affine, align)


@pytest.mark.parametrize("align", [True, False])
def test_nothing_is_left_outside_the_brain_and_no_value_is_new(make_brain, align):
    for a, b in ((0, 1), (2, 3), (4, 5)):
        donor, recipient = make_brain(a, scale=1.1), make_brain(b, scale=0.8)
        label, kept = transplanted(donor, recipient, align)
        assert not label[recipient.tissue == 0].any()
        assert set(np.unique(label)) <= {0, 1, 2, 4} and label.dtype == np.uint8
        assert 0 < kept <= 1


@pytest.mark.parametrize("align", [True, False])
def test_in_the_same_brain_all_is_kept_where_it_was(make_brain, align):
    subject = make_brain(0)
    label, kept = transplanted(subject, subject, align)
    np.testing.assert_array_equal(label, subject.label)
    assert kept == 1


def test_unaligned_millimeters_are_kept_whatever_the_recipients_grid(make_brain):
    donor, recipient = make_brain(0), make_brain(1)
    finer = np.repeat(np.repeat(np.repeat(recipient.tissue > 0, 2, 0), 2, 1), 2, 2)
    affine = donor.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = donor.affine[:3, :3] @ np.full(3, -0.25) + donor.affine[:3, 3]
    label, kept = transplant(donor.label, donor.affine, donor.tissue > 0, finer, affine, False)
    coarse, kept_coarse = transplanted(donor, recipient, False)
    np.testing.assert_array_equal(label[::2, ::2, ::2], coarse)
    assert kept == pytest.approx(kept_coarse)


def test_what_falls_outside_is_measured(make_brain):
    donor = make_brain(0)
    half = (donor.tissue > 0) & (np.arange(24) < np.argwhere(donor.label)[:, 0].mean())[:, None, None]
    label, kept = transplant(donor.label, donor.affine, donor.tissue > 0, half, donor.affine, False)
    assert kept == pytest.approx((label > 0).sum() / (donor.label > 0).sum())
    assert 0.3 < kept < 0.7


def place(label, subject) -> np.ndarray:
    """Middle of a tumor as shares of the brain's box."""
    low, high = bounding_box(subject.tissue > 0)
    return (np.argwhere(label > 0).mean(axis=0) - low) / (high - low)


def test_aligned_by_boxes_a_smaller_brain_gets_the_tumor_at_its_own_place_and_size(make_brain):
    donor, smaller = make_brain(0), make_brain(0, scale=0.7)
    aligned, kept = transplanted(donor, smaller, True)
    unaligned, _ = transplanted(donor, smaller, False)

    def dice(label):
        return 2 * ((label > 0) & (smaller.label > 0)).sum() / ((label > 0).sum() + (smaller.label > 0).sum())

    assert dice(aligned) > 0.85 > dice(unaligned)
    assert kept > 0.9
    np.testing.assert_allclose(place(aligned, smaller), place(donor.label, donor), atol=0.05)


def test_the_draw_is_recorded_and_never_the_recipient(pool):
    draw = TumorTransplantd()
    for seed in range(20):
        draw.set_random_state(seed)
        done = draw({**pool[0], "donors": pool})
        record = done["transplant"]
        assert record["donor"] in {"S1", "S2", "S3", "S4", "S5"}
        assert 0.8 <= record["kept"] <= 1 and record["tries"] >= 1
        donor = next(d for d in pool if d["subject"] == record["donor"])
        expected, kept = transplant(*arrays(donor), *arrays(pool[0])[:0:-1], align=True)
        np.testing.assert_array_equal(done["transplanted"].numpy()[0], expected)
        assert kept == record["kept"]
        assert "donors" not in done and "donor" not in done
        assert torch.equal(done["label"], pool[0]["label"])


def test_same_state_same_draw_and_all_donors_have_their_turn(pool):
    draw = TumorTransplantd()

    def drawn(seed):
        draw.set_random_state(seed)
        return draw({**pool[2], "donors": pool})["transplant"]["donor"]

    first = [drawn(seed) for seed in range(40)]
    assert first == [drawn(seed) for seed in range(40)]
    assert set(first) == {"S0", "S1", "S3", "S4", "S5"}


def test_a_named_donor_is_tried_first(pool):
    for donor in (1, 3, 5):
        done = TumorTransplantd(min_kept=0)({**pool[0], "donors": pool, "donor": donor})
        assert done["transplant"]["donor"] == f"S{donor}" and done["transplant"]["tries"] == 1


def test_a_poor_transplant_is_redrawn(pool, make_brain):
    huge = item(make_brain(1, scale=1.15), "huge")
    huge["label"] = MetaTensor((huge["brain"].as_tensor() > 0).to(torch.uint8) * 2, affine=huge["label"].affine)
    tiny = item(make_brain(0, scale=0.6), "tiny")
    draw = TumorTransplantd(align=False, min_kept=0.5)
    small = item(make_brain(2), "small")
    small["label"] = MetaTensor(torch.zeros_like(small["label"].as_tensor()), affine=small["label"].affine)
    small["label"][0, 11:13, 11:13, 9:11] = 1
    done = draw({**tiny, "donors": [huge, small], "donor": 0})
    assert done["transplant"] == {"donor": "small", "kept": 1.0, "tries": 2}


def test_when_no_transplant_is_good_enough_it_says_so_after_the_set_tries(pool, make_brain, refused):
    tiny = item(make_brain(0, scale=0.5), "tiny")
    with refused(expected="100%", found="in 3 tries", where="tiny", do="min_kept"):
        TumorTransplantd(align=False, min_kept=1.0, max_tries=3)({**tiny, "donors": pool})


def test_a_single_subject_has_no_donor(pool, refused):
    with refused(expected="two subjects", where="S0", do="add subjects"):
        TumorTransplantd()({**pool[0], "donors": pool[:1]})


def test_an_item_without_donors_is_refused_with_what_to_pass(pool, refused):
    with refused(expected="donors", do='{**item, "donors": dataset}'):
        TumorTransplantd()(pool[0])


def test_a_copy_without_a_donor_is_refused_with_what_to_pass(pool, refused):
    with refused(expected="donor", do='{**item, "donor": other}'):
        CopyPasted()(pool[0])
