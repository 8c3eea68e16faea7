"""A discriminator that sees its images moved."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mrsynth.adversarial import AugmentedDiscriminator, GameBatch, GradientPenalty


class Seen(nn.Module):
    """Keeps what it was shown; its logit is the mean of the image's first pixel column."""

    def forward(self, *shown: torch.Tensor) -> torch.Tensor:
        self.shown = shown
        return shown[0][..., 0].flatten(1).mean(dim=1)


@pytest.mark.parametrize("size", [(12, 10), (8, 9, 10)])
def test_each_image_is_moved_by_itself_and_its_condition_with_it(size):
    torch.manual_seed(0)
    image, seen = torch.rand(16, 2, *size), Seen()
    AugmentedDiscriminator(seen, 3)(image, image[:, :1])
    moved, condition = seen.shown
    assert moved.shape == image.shape and torch.equal(moved[:, :1], condition)
    padded = F.pad(image, [3] * (2 * len(size)), mode="reflect")
    places = []
    for before, after in zip(padded, moved, strict=True):
        windows = before
        for axis, side in enumerate(size, start=1):
            windows = windows.unfold(axis, side, 1)  # every place a window can have, then its sides
        found = (windows == after[(slice(None), *[None] * len(size))]).flatten(1 + len(size)).all(-1).all(0)
        places.append(tuple(torch.nonzero(found)[0].tolist()))
    assert len(set(places)) > 5 and max(max(place) for place in places) <= 6


def test_without_translation_the_discriminator_sees_the_image_itself():
    image, seen = torch.rand(2, 1, 6, 6), Seen()
    AugmentedDiscriminator(seen, 0)(image)
    assert seen.shown[0] is image


def test_the_generator_is_reached_by_the_gradient_of_every_pixel_that_is_seen():
    torch.manual_seed(0)
    image = torch.rand(64, 1, 6, 6, requires_grad=True)
    AugmentedDiscriminator(Seen(), 2)(image).sum().backward()
    reached = (image.grad != 0).any(dim=2).any(dim=0).flatten()
    assert reached[:3].all() and not reached[3:].any()  # the first column comes from columns 0 to 2
    assert torch.allclose(image.grad.sum(), torch.tensor(64.0))


def test_a_gradient_penalty_passes_through():
    discriminator = AugmentedDiscriminator(nn.Sequential(nn.Flatten(), nn.Linear(36, 1)), 2)
    play = GameBatch(torch.rand(4, 1, 6, 6), torch.zeros(4, 1))
    GradientPenalty().penalty(discriminator, play, torch.rand(4, 1, 6, 6))["gradient_penalty"].backward()
    assert discriminator.discriminator[1].weight.grad.abs().sum() > 0


def test_a_translation_out_of_range_is_refused(refused):
    for wrong in (-1, 1.5, "8"):
        with refused(expected="0 or more", found=repr(wrong), where="translation"):
            AugmentedDiscriminator(Seen(), wrong)
    with refused(expected="less than the image's 6 pixels", found="6", where="translation"):
        AugmentedDiscriminator(Seen(), 6)(torch.rand(1, 1, 6, 8))
