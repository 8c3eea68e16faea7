"""Pairs: all different, balanced, the same for the same seed; transplants on the native grid."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.synthesis import TransplantPairs, ordered_pairs
from mrsynth.transforms import CropResampled


@pytest.mark.parametrize("n", [2, 3, 7])
def test_every_ordered_pair_comes_once_and_each_round_uses_everybody(n):
    pairs = ordered_pairs(n, seed=5)
    assert sorted(pairs) == [(a, b) for a in range(n) for b in range(n) if a != b]
    for start in range(0, len(pairs), n):
        recipients, donors = zip(*pairs[start : start + n], strict=True)
        assert sorted(recipients) == sorted(donors) == list(range(n))


def test_the_order_follows_from_the_seed():
    assert ordered_pairs(8, 1) == ordered_pairs(8, 1) != ordered_pairs(8, 2)


def test_one_subject_has_no_donor(refused):
    with refused(expected="donor"):
        ordered_pairs(1)


@pytest.fixture
def dataset(make_brain):
    """A maker of ``TransplantPairs`` over subjects in memory; subject 0's brain is small."""

    def native(entry: dict) -> dict:
        index = entry["index"]
        subject = make_brain(index, scale=0.6 if index == 0 else 1.0)
        volumes = {"image": subject.image, "label": subject.label[None], "brain": (subject.tissue > 0)[None]}
        affine = torch.from_numpy(subject.affine)
        item = {k: MetaTensor(torch.from_numpy(v.astype(np.int16)), affine=affine) for k, v in volumes.items()}
        item["image"].meta["filename_or_obj"] = f"{entry['subject']}_t1.nii.gz"
        return item | {"subject": entry["subject"]}

    def make(count: int, crop="brain", subjects: int = 4, **options) -> TransplantPairs:
        def prepare(item: dict) -> dict:
            item = CropResampled(["brain", "transplanted"], (16, 16, 16), crop)(item)
            return item | {"image": item["transplanted"]}

        data = [{"subject": f"S{i}", "index": i} for i in range(subjects)]
        return TransplantPairs(data, count, native, prepare, **options)

    return make


def who(items) -> list[tuple[str, str]]:
    return [(item["transplant"]["recipient"], item["transplant"]["donor"]) for item in items]


def test_labels_lie_in_the_recipients_brain_on_its_own_grid(dataset):
    for item in dataset(6, min_kept=0.0):
        label, brain = item["native_label"].numpy(), item["native_brain"].numpy()
        assert set(np.unique(label)) <= {0, 1, 2, 4} and label.any()
        assert not label[brain == 0].any()
        assert item["native_label"].shape == item["native_brain"].shape == (1, *item["native"]["shape"].tolist())
        assert item["recipient_file"] == f"{item['transplant']['recipient']}_t1.nii.gz"


def test_a_longer_set_begins_as_a_shorter_one(dataset):
    assert who(dataset(8))[:3] == who(dataset(3))
    assert len(set(who(dataset(8)))) == 8


def test_any_subject_can_be_asked_for_first(dataset):
    late, one_by_one = dataset(5)[4], list(dataset(5))[4]
    assert late["transplant"] == one_by_one["transplant"]
    assert torch.equal(late["native_label"].as_tensor(), one_by_one["native_label"].as_tensor())


def test_what_is_done_is_left_out_and_the_rest_is_the_same(dataset):
    whole = list(dataset(5))
    places = {item["number"]: item["transplant"]["place"] for item in whole}
    rest = dataset(5, done={n: places[n] for n in (0, 1, 3)})
    assert [item["number"] for item in rest] == [2, 4]
    assert who(rest) == [who(whole)[2], who(whole)[4]]


def test_poor_transplants_are_passed_over(dataset):
    # without alignment, large brains' tumors do not fit into the small brain of S0
    everything = list(dataset(12, min_kept=0.0, align=False))
    good = [pair for pair, item in zip(who(everything), everything, strict=True) if item["transplant"]["kept"] >= 0.9]
    assert 0 < len(good) < 12
    chosen = list(dataset(len(good), min_kept=0.9, align=False))
    assert who(chosen) == good
    assert sum(item["transplant"]["tries"] for item in chosen) == chosen[-1]["transplant"]["place"] + 1


def test_more_than_there_are_good_pairs_is_refused_with_the_number(dataset, refused):
    pairs = dataset(12, min_kept=0.9, align=False)
    with refused(do="--count"):
        list(pairs)


def test_counts_out_of_range_are_refused(dataset, refused):
    for count in (0, 13, 2.5, True):
        with refused(expected="1 to 12"):
            dataset(count)


def test_what_the_training_grid_does_not_cover_is_cut_off(dataset):
    for item in dataset(4, crop=[8, 12], min_kept=0.0):
        label = item["native_label"].numpy()[0]
        assert label.any() and not label[:, :, :8].any() and not label[:, :, 12:].any()
    slab, whole = ([i["transplant"]["kept"] for i in dataset(12, crop=c, min_kept=0.0)] for c in ([8, 12], "brain"))
    assert all(a <= b for a, b in zip(slab, whole, strict=True)) and sum(slab) < 0.9 * sum(whole)


def test_donors_are_used_evenly(dataset):
    donors = Counter(donor for _, donor in who(dataset(8, min_kept=0.0)))
    assert set(donors.values()) == {2}
