"""The semantic label: its values, its channels, and the tissue under it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrsynth.transforms import (
    CONDITIONS,
    BrainMaskd,
    EncodeSemanticd,
    SemanticLabeld,
    TissueClassesd,
    condition_values,
    encode,
    fill_tumor,
)

CSF, GRAY, WHITE = 6, 7, 8


@pytest.fixture
def item(make_brain) -> dict:
    subject = make_brain(0)
    image = MetaTensor(torch.from_numpy(subject.image), affine=subject.affine)
    label = MetaTensor(torch.from_numpy(subject.label[None]), affine=subject.affine)
    return TissueClassesd()(BrainMaskd()({"image": image, "label": label, "subject": "A"}))


def semantic(item: dict, condition: str) -> MetaTensor:
    return SemanticLabeld(["label"], ["semantic"], condition)(item)["semantic"]


def test_tissue_classes_are_csf_gray_and_white_in_that_order(item, make_brain):
    truth = make_brain(0).tissue
    healthy = (truth > 0) & (item["label"].numpy()[0] == 0)
    found = item["tissue"].numpy()[0]
    for value in (CSF, GRAY, WHITE):
        where = healthy & (truth == value)
        assert (found[where] == value).mean() > 0.97, value
    assert ((found > 0) == (truth > 0)).all()


def test_tissue_under_the_tumor_is_that_of_the_other_hemisphere(item, make_brain):
    truth, tumor = make_brain(0).tissue, item["label"].numpy()[0] > 0
    assert (item["tissue"].numpy()[0][tumor] == truth[tumor]).mean() > 0.9


def test_tissue_classes_are_the_same_each_time(item):
    assert torch.equal(TissueClassesd()(item)["tissue"], item["tissue"])


def test_filling_takes_the_mirror_image_then_the_nearest_healthy_voxel():
    brain = np.zeros((8, 5, 1), bool)
    brain[1:7] = True
    tumor = np.zeros_like(brain)
    tumor[1:3, 1:3] = True  # one side
    tumor[5, 2] = True  # and the mirror image of one of its voxels, (2, 2)
    classes = np.where(brain, GRAY, 0).astype(np.uint8)
    classes[5:7, 1] = WHITE
    classes[2, 3] = CSF
    classes[tumor] = 0
    filled = fill_tumor(classes, brain, tumor)
    assert filled[1, 1, 0] == filled[2, 1, 0] == WHITE  # mirrored at 6 and 5
    assert filled[1, 2, 0] == GRAY  # mirrored at 6
    assert filled[2, 2, 0] in (CSF, WHITE, GRAY) and filled[5, 2, 0] != 0  # no healthy mirror image
    np.testing.assert_array_equal(filled[~tumor], classes[~tumor])


@pytest.mark.parametrize(("condition", "values"), [("mask", {0, 1, 2, 3, 5}), ("tissue", {0, 6, 7, 8, 2, 3, 5})])
def test_values_of_a_condition(item, condition, values):
    assert set(semantic(item, condition).unique().tolist()) == values == set(CONDITIONS[condition])


def test_with_the_mask_it_is_the_sum_of_brain_and_label(item):
    total = item["brain"].as_tensor() + item["label"].as_tensor() * item["brain"].as_tensor()
    assert torch.equal(semantic(item, "mask").as_tensor(), total)
    # and the single channel that the network takes holds the sum itself
    channel = EncodeSemanticd(["semantic"], "mask", one_hot=False)({"semantic": semantic(item, "mask")})["semantic"]
    assert channel.shape[0] == 1 and channel.dtype == torch.float32
    assert torch.equal(channel.as_tensor(), total.float())


def test_with_tissue_the_tumor_goes_over_the_tissue(item):
    found, label = semantic(item, "tissue").as_tensor(), item["label"].as_tensor()
    assert torch.equal(found[label > 0], label[label > 0] + 1)
    assert torch.equal(found[label == 0], item["tissue"].as_tensor()[label == 0])


def test_a_label_outside_the_brain_does_not_count(item):
    item["label"] = MetaTensor(torch.ones_like(item["label"].as_tensor()), affine=item["label"].affine)
    assert torch.equal(semantic(item, "mask").as_tensor() > 0, item["brain"].as_tensor() > 0)


@pytest.mark.parametrize("condition", ["mask", "tissue"])
def test_one_hot_channels_sum_to_one_and_stand_in_the_order_of_the_values(item, condition):
    label = semantic(item, condition)
    channels = EncodeSemanticd(["semantic"], condition)({"semantic": label})["semantic"]
    assert channels.shape == (len(CONDITIONS[condition]), *label.shape[1:])
    assert (channels.sum(dim=0) == 1).all() and set(channels.unique().tolist()) == {0, 1}
    values = torch.tensor(CONDITIONS[condition])[channels.as_tensor().argmax(dim=0)]
    assert torch.equal(values, label.as_tensor()[0].long())
    assert torch.equal(channels.affine, label.affine)


def test_the_single_channel_is_scaled_as_told(item):
    label = semantic(item, "mask")
    assert torch.equal(encode(label, CONDITIONS["mask"], False, 0.2), label.as_tensor().float() * 0.2)


def test_a_value_of_another_condition_is_refused(item, refused):
    with refused(expected="(0, 1, 2, 3, 5)", found="6", do="condition"):
        encode(semantic(item, "tissue"), CONDITIONS["mask"], True)


def test_an_unknown_label_value_is_refused(item, refused):
    item["label"][0, 5, 5, 5] = 3
    with refused(expected="(0, 1, 2, 4)", found="3", where="A"):
        semantic(item, "mask")


def test_an_unknown_condition_is_refused(refused):
    with refused(expected="['mask', 'tissue']", found="atlas"):
        condition_values("atlas")
