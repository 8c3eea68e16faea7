"""Label values as class indices, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.metrics import to_label
from mrsynth.transforms import LabelClassesd


def label(values: object, dtype: type = np.uint8) -> MetaTensor:
    voxels = torch.from_numpy(np.array(values, dtype).reshape(1, 1, 1, -1))
    return MetaTensor(voxels, affine=torch.diag(torch.arange(1.0, 5)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_each_value_has_its_class(dtype):
    classes = LabelClassesd()({"label": label([0, 1, 2, 4, 4, 0], dtype)})["label"]
    assert classes.flatten().tolist() == [0, 1, 2, 3, 3, 0]
    assert classes.dtype == torch.uint8 and torch.equal(classes.affine, label([0]).affine)


def test_there_and_back_a_label_is_what_it_was(make_brain):
    before = torch.from_numpy(make_brain(0).label[None])
    classes = LabelClassesd()({"label": MetaTensor(before)})["label"]
    assert torch.equal(to_label(classes.as_tensor()), before)


def test_other_keys_are_left_and_the_input_is_not_changed():
    item = {"label": label([0, 4]), "other": label([0, 4]), "subject": "A"}
    found = LabelClassesd()(item)
    assert found["other"] is item["other"] and item["label"].flatten().tolist() == [0, 4]


@pytest.mark.parametrize("value", [3, 5, 255])
def test_another_value_is_refused(refused, value):
    with refused(expected="0, 1, 2, 4", found=str(value), where="A", do="map the label"):
        LabelClassesd()({"label": label([0, value]), "subject": "A"})


@pytest.mark.parametrize(("value", "dtype"), [(-1, np.int16), (256, np.int16), (258, np.int32), (1.5, np.float32)])
def test_a_value_that_eight_bits_would_fold_onto_a_known_one_is_refused(refused, value, dtype):
    with refused(expected="0, 1, 2, 4", found=str(value)):
        LabelClassesd()({"label": label([0, value], dtype), "subject": "A"})
