"""The usual augmentation: what it must keep, what it must change, and that a seed decides all of it."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from mrsynth.transforms import usual_augmentation

ALWAYS = {"affine_probability": 1.0, "elastic_probability": 1.0}


@pytest.fixture(scope="module")
def patch(make_brain) -> dict:
    """A whole small brain; the image's first channel is 1 in the tumor."""
    subject = make_brain(0)
    label = torch.from_numpy(subject.label[None])
    image = torch.cat([(label > 0).float(), torch.from_numpy(subject.image[1:]).float()])
    return {"image": MetaTensor(image), "label": MetaTensor(label), "subject": "A"}


def augmented(patch: dict, seed: int, **options) -> dict:
    return Compose(usual_augmentation(**{**ALWAYS, **options})).set_random_state(seed=seed)(patch)


@pytest.mark.parametrize("seed", range(4))
def test_values_of_the_label_its_type_and_the_shapes_are_kept(patch, seed):
    found = augmented(patch, seed)
    assert set(found["label"].unique().tolist()) <= {0, 1, 2, 4}
    assert found["label"].shape == patch["label"].shape and found["image"].shape == patch["image"].shape
    assert found["image"].dtype == torch.float32
    assert (found["label"] > 0).any() and not torch.equal(found["label"].as_tensor(), patch["label"].as_tensor())


@pytest.mark.parametrize("seed", range(4))
def test_image_and_label_move_together(patch, seed):
    found = augmented(patch, seed)
    shown, label = found["image"][0].as_tensor() > 0.5, found["label"][0].as_tensor() > 0
    assert 2 * int((shown & label).sum()) / int(shown.sum() + label.sum()) > 0.9


def test_a_seed_decides_everything(patch):
    one, same, other = (augmented(patch, seed) for seed in (1, 1, 2))
    assert torch.equal(one["image"].as_tensor(), same["image"].as_tensor())
    assert torch.equal(one["label"].as_tensor(), same["label"].as_tensor())
    assert not torch.equal(one["image"].as_tensor(), other["image"].as_tensor())


def test_none_is_no_transform():
    assert usual_augmentation("none") == []


def test_what_is_not_drawn_changes_nothing(patch):
    found = augmented(patch, 0, affine_probability=0.0, elastic_probability=0.0)
    assert torch.equal(found["label"].as_tensor(), patch["label"].as_tensor())
    assert torch.allclose(found["image"].as_tensor(), patch["image"].as_tensor(), atol=1e-2)  # of some hundreds


def test_no_greater_change_than_none_changes_nothing(patch):
    still = {"rotation": 0.0, "scaling": 0.0, "translation": 0.0, "elastic_probability": 0.0}
    found = augmented(patch, 0, **still)
    assert torch.equal(found["label"].as_tensor(), patch["label"].as_tensor())


@pytest.mark.parametrize("seed", range(3))
def test_a_shift_is_no_greater_than_asked(patch, seed):
    only = {"rotation": 0.0, "scaling": 0.0, "translation": 2.0, "elastic_probability": 0.0}
    found = augmented(patch, seed, **only)["label"][0].as_tensor() > 0
    before = patch["label"][0].as_tensor() > 0
    moved = found.nonzero().float().mean(dim=0) - before.nonzero().float().mean(dim=0)
    assert 0 < float(moved.abs().max()) < 2.5


def test_another_name_is_refused(refused):
    with refused(expected="none", found="'strong'", where="augmentation"):
        usual_augmentation("strong")
