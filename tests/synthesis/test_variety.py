"""Random shifts of tumor intensities: of the tumor alone, the same for the same subject, as large as asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from mrsynth.synthesis import TumorVarietyd


def item(number: int = 0) -> dict:
    label = torch.zeros(1, 24, 24, 24, dtype=torch.uint8)
    label[:, 6:16, 6:16, 6:16] = 2
    label[:, 9:13, 9:13, 9:13] = 4
    return {"pred": torch.zeros(4, 24, 24, 24), "transplanted": MetaTensor(label), "number": number}


def shift(**options) -> np.ndarray:
    number = options.pop("number", 0)
    return TumorVarietyd(**options)(item(number))["pred"].numpy()


def test_nothing_changes_at_zero_or_away_from_the_tumor():
    data = item()
    assert TumorVarietyd(0.0)(data)["pred"] is data["pred"]
    moved = shift(amount=0.2)
    far = ~ndimage.binary_dilation(data["transplanted"][0] > 0, np.ones((7, 7, 7)))
    assert not moved[:, far].any() and (moved[:, data["transplanted"][0] > 0] != 0).mean() > 0.99
    assert np.abs(shift(amount=1.0)).max() <= 1


def test_draws_follow_from_seed_and_number():
    assert np.array_equal(shift(amount=0.1, seed=3, number=2), shift(amount=0.1, seed=3, number=2))
    assert not np.array_equal(shift(amount=0.1, seed=3, number=2), shift(amount=0.1, seed=3, number=1))
    assert not np.array_equal(shift(amount=0.1, seed=3, number=2), shift(amount=0.1, seed=4, number=2))


def test_tumors_of_one_label_differ_by_as_much_as_asked_for():
    means = np.stack(
        [shift(amount=0.1, number=number)[:, 10:12, 10:12, 10:12].mean(axis=(1, 2, 3)) for number in range(40)]
    )
    assert 0.07 < means.std() < 0.2 and abs(means.mean()) < 0.05
    assert np.abs(np.corrcoef(means.T) - np.eye(4)).max() < 0.6  # each sequence for itself


@pytest.mark.parametrize("amount", [-0.1, "0.1", 2, True])
def test_other_amounts_are_refused(refused, amount):
    with refused(where="variety"):
        TumorVarietyd(amount)
