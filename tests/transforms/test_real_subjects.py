"""Every ordered pair of real subjects. Set MRSYNTH_TEST_DATA to a folder of BraTS subjects to run it."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from monai.transforms import Compose

from mrsynth.manifest import resolve_datalist
from mrsynth.transforms import BrainMaskd, CropResampled, LoadSubjectd, transplant

FOLDER = os.environ.get("MRSYNTH_TEST_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="MRSYNTH_TEST_DATA names no folder of real subjects")


@pytest.fixture(scope="module")
def subjects() -> list[dict]:
    """All subjects of the folder on a grid of about 3 mm."""
    prepare = Compose([LoadSubjectd(), BrainMaskd(), CropResampled(["label", "brain"], (80, 80, 52), "none")])
    parts = resolve_datalist(FOLDER)
    return [prepare(entry) for part in parts.values() for entry in part]


def kept_shares(subjects: list[dict], align: bool) -> np.ndarray:
    shares = []
    for donor, recipient in itertools.permutations(subjects, 2):
        brain = recipient["brain"].numpy()[0] > 0
        label, kept = transplant(
            donor["label"].numpy()[0],
            donor["label"].affine.numpy(),
            donor["brain"].numpy()[0] > 0,
            brain,
            recipient["brain"].affine.numpy(),
            align,
        )
        assert set(np.unique(label)) <= {0, 1, 2, 4}
        assert not label[~brain].any()
        shares.append(kept)
    return np.array(shares)


def test_most_of_every_tumor_finds_place_and_more_of_it_when_aligned(subjects):
    unaligned, aligned = kept_shares(subjects, False), kept_shares(subjects, True)
    print(
        f"{len(aligned)} pairs kept {unaligned.mean():.3f} / {aligned.mean():.3f}, "
        f"at worst {unaligned.min():.2f} / {aligned.min():.2f}"
    )
    assert 0.88 < unaligned.mean() < aligned.mean() < 1
    assert aligned.mean() > 0.93
    assert (aligned < 0.8).mean() < 0.05
    assert aligned.min() > unaligned.min()
