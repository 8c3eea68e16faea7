"""What each round shows to the players."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from mrsynth.adversarial import ClassRound, LatentRound, TranslationRound, TransplantRound

CPU = torch.device("cpu")


def test_latent_round_gives_as_much_normal_noise_as_there_are_images():
    batch = {"image": MetaTensor(torch.rand(500, 1, 4, 4))}
    torch.manual_seed(0)
    play = LatentRound(64)(batch, CPU)
    assert play.generator_input.shape == (500, 64)
    assert abs(play.generator_input.mean()) < 0.02 and abs(play.generator_input.std() - 1) < 0.02
    assert torch.equal(play.real, batch["image"].as_tensor()) and not isinstance(play.real, MetaTensor)
    assert play.real_condition is play.fake_condition is play.target is None


def test_class_round_makes_fakes_of_the_classes_of_the_real_images():
    batch = {"image": torch.rand(3, 7, 4, 4), "class": torch.tensor([2, 0, 1])}
    play = ClassRound(5, 3)(batch, CPU)
    expected = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert play.generator_input.shape == (3, 8)
    assert torch.equal(play.generator_input[:, 5:], expected)
    for condition in (play.real_condition, play.fake_condition):
        assert condition.shape == (3, 3, 4, 4)
        assert torch.equal(condition, expected[:, :, None, None].expand(3, 3, 4, 4))


def test_class_round_can_keep_the_class_from_the_discriminator():
    batch = {"image": torch.rand(3, 7, 4, 4), "class": torch.tensor([[2], [0], [1]])}
    play = ClassRound(5, 3, condition_discriminator=False)(batch, CPU)
    assert play.real_condition is None and play.fake_condition is None
    assert play.generator_input.shape == (3, 8)


def test_translation_round_knows_the_truth_everywhere():
    batch = {"image": torch.rand(2, 4, 3, 3, 3), "label": torch.rand(2, 5, 3, 3, 3)}
    play = TranslationRound("label")(batch, CPU)
    for shown in (play.generator_input, play.real_condition, play.fake_condition):
        assert torch.equal(shown, batch["label"])
    assert torch.equal(play.real, batch["image"]) and torch.equal(play.target, batch["image"])
    assert torch.equal(play.target_weight, torch.ones(2, 1, 3, 3, 3))


def test_the_thesis_round_sets_the_recipients_mri_against_the_image_of_the_transplant(play):
    (batch,) = play.transplants(1)
    shown = TransplantRound()(batch, CPU)
    assert torch.equal(shown.real, batch["image"]) and torch.equal(shown.real_condition, batch["own_condition"])
    assert torch.equal(shown.generator_input, batch["fused_condition"])
    assert torch.equal(shown.fake_condition, batch["fused_condition"])
    assert shown.target is None and shown.target_weight is None


@pytest.mark.parametrize("tumor_weight", [1.0, 3.0])
def test_with_its_own_label_the_truth_counts_everywhere_there_and_outside_both_tumors_in_the_transplant(
    play, tumor_weight
):
    (batch,) = play.transplants(1)
    shown = TransplantRound(own_label=True, tumor_weight=tumor_weight)(batch, CPU)
    assert torch.equal(shown.generator_input, torch.cat([batch["own_condition"], batch["fused_condition"]]))
    assert torch.equal(shown.fake_condition, shown.generator_input)
    assert torch.equal(shown.real_condition, batch["own_condition"]) and len(shown.real) == 2
    assert torch.equal(shown.target, torch.cat([batch["image"]] * 2))
    own, transplant = shown.target_weight.chunk(2)
    tumor, other = batch["label"] > 0, batch["transplanted"] > 0
    assert (own[tumor] == tumor_weight).all() and (own[~tumor] == 1).all()
    assert (transplant[tumor] == 0).all() and (transplant[other] == 0).all()
    assert (transplant[~tumor & ~other] == 1).all()
    assert (tumor & ~other).any() and (other & ~tumor).any()
