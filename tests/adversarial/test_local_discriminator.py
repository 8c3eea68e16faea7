"""The discriminator of the tumor: what it sees, whom its gradient reaches, and what the trainer says of it."""

from __future__ import annotations

import copy

import pytest
import torch

from mrsynth.adversarial import (
    L1,
    Alternating,
    GradientPenalty,
    Hinge,
    LeastSquares,
    LocalDiscriminator,
    TransplantRound,
    Wasserstein,
)
from mrsynth.adversarial.local import crop_each, crop_starts

SIZE = (4, 2, 3)


def find(condition: torch.Tensor) -> torch.Tensor:
    """The last channel says where the tumor is."""
    return condition[:, -1] > 0.5


def batch(size: int = 2, side: int = 8) -> dict[str, torch.Tensor]:
    """Images with one small tumor each, own and transplanted at different places."""
    noise = torch.Generator().manual_seed(1)
    made = {"image": torch.rand(size, 4, side, side, side, generator=noise) * 2 - 1}
    for key, label, at in (("own_condition", "label", 1), ("fused_condition", "transplanted", 5)):
        made[label] = torch.zeros(size, 1, side, side, side)
        for index in range(size):
            made[label][index, :, at : at + 2, at + index, 2:4] = 1
        made[key] = torch.cat([torch.rand(size, 4, side, side, side, generator=noise), made[label]], dim=1)
    return made


def discriminator(play) -> LocalDiscriminator:
    torch.manual_seed(0)
    return LocalDiscriminator(play.voxels(9, 1), play.voxels(9, 1), SIZE, find)


def test_a_crop_lies_around_the_tumor_inside_the_grid():
    masks = torch.zeros(4, 9, 9, 9, dtype=torch.bool)
    masks[0, 4:6, 3:5, 7] = True  # in the middle
    masks[1, 0, 0, 0] = True  # in a corner
    masks[2, 8, 8, 8] = True  # in the opposite one; the fourth has none
    starts = crop_starts(masks, (4, 4, 4))
    assert starts.tolist() == [[3, 2, 5], [0, 0, 0], [5, 5, 5], [2, 2, 2]]
    for mask, crop in zip(masks, crop_each(masks[:, None], starts, (4, 4, 4)), strict=True):
        assert crop.sum() == mask.sum()


def test_a_far_satellite_does_not_move_the_crop():
    mask = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    mask[:, 2:5, 2:5, 2:5] = mask[:, 15, 15, 15] = True
    crop = crop_each(mask[:, None], crop_starts(mask, (4, 4, 4)), (4, 4, 4))
    assert crop.sum() == 27


def test_a_tumor_larger_than_the_crop_is_cut_around_its_middle():
    mask = torch.zeros(1, 12, 12, 12, dtype=torch.bool)
    mask[:, 2:10, 2:10, 2:10] = True
    assert crop_starts(mask, (4, 4, 4)).tolist() == [[4, 4, 4]]


def test_its_gradient_comes_from_the_crop_alone(play):
    judge, data = discriminator(play), batch()
    image = data["image"].clone().requires_grad_()
    judge(image, data["fused_condition"])["local_"].sum().backward()
    inside = torch.zeros_like(image, dtype=torch.bool)
    for index, start in enumerate(crop_starts(find(data["fused_condition"]), SIZE).tolist()):
        inside[(index, slice(None), *[slice(a, a + n) for a, n in zip(start, SIZE, strict=True)])] = True
    assert (image.grad[~inside] == 0).all() and (image.grad[inside] != 0).all()
    assert (data["fused_condition"][:, -1] > 0).logical_and(~inside[:, 0]).sum() == 0
    assert all(p.grad is None for p in judge.whole.parameters())


def test_it_sees_what_a_discriminator_of_the_crop_would_see(play):
    judge, data = discriminator(play), batch()
    found = judge(data["image"], data["own_condition"])
    assert torch.equal(found[""], judge.whole(data["image"], data["own_condition"]))
    for index, start in enumerate(crop_starts(find(data["own_condition"]), SIZE).tolist()):
        window = (slice(index, index + 1), slice(None), *[slice(a, a + n) for a, n in zip(start, SIZE, strict=True)])
        expected = judge.local(data["image"][window], data["own_condition"][window])
        torch.testing.assert_close(found["local_"][index : index + 1], expected)


PARTS = {"objective": LeastSquares(), "round": TransplantRound(own_label=True), "terms": [L1(20.0)]}


def test_the_trainer_names_its_losses_and_saves_it(play):
    judge = discriminator(play)
    before = copy.deepcopy(judge.local.state_dict())
    trainer = play.game([batch()], play.voxels(5, 4), judge, **PARTS)
    trainer.run()
    output = trainer.state.output[0]
    discriminators = [
        "discriminator_real",
        "discriminator_fake",
        "local_discriminator_real",
        "local_discriminator_fake",
    ]
    generators = ["adversarial", "local_adversarial", "l1"]
    assert set(output) == {"loss", "discriminator_loss", "generator_loss", *discriminators, *generators}
    assert output["discriminator_loss"] == pytest.approx(sum(output[name] for name in discriminators))
    assert output["generator_loss"] == pytest.approx(sum(output[name] for name in generators))
    saved = trainer.objects_to_save()["discriminator"].state_dict()
    assert any(not torch.equal(saved[f"local.{name}"], value) for name, value in before.items())


def test_the_weight_is_how_much_the_generator_listens_and_no_more(play):
    """At weight 0 the generator moves as without a local discriminator; the discriminators move as at any weight."""
    results = {}
    for weight in (0.0, 1.0, None):
        torch.manual_seed(0)
        generator, judge = play.voxels(5, 4), discriminator(play)
        parts = {**PARTS, "discriminator_weights": {} if weight is None else {"local_": weight}}
        trainer = play.game([batch()], generator, judge if weight is not None else judge.whole, **parts)
        trainer.run()
        results[weight] = (list(generator.parameters()), list(judge.whole.parameters()), list(judge.local.parameters()))

    def same(a, b) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    assert same(results[0.0][0], results[None][0]) and not same(results[1.0][0], results[None][0])
    assert same(results[0.0][1], results[None][1]) and same(results[1.0][1], results[None][1])
    assert same(results[0.0][2], results[1.0][2]) and not same(results[1.0][2], results[None][2])


@pytest.mark.parametrize("schedule", [None, Alternating()])
def test_a_batch_in_parts_moves_as_the_batch_at_once(play, schedule):
    results = []
    for accumulation in (1, 2):
        torch.manual_seed(0)
        generator, judge = play.voxels(5, 4), discriminator(play)
        parts = {**PARTS, "objective": Hinge(), "schedule": schedule, "accumulation": accumulation}
        play.game([batch(), batch()], generator, judge, **parts).run()
        results.append([*generator.parameters(), *judge.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_the_gradient_penalty_applies_to_each_part(play):
    parts = {"objective": Wasserstein(), "round": TransplantRound(), "constraint": GradientPenalty(10.0)}
    trainer = play.game([batch()], play.voxels(5, 4), discriminator(play), **parts)
    trainer.run()
    output = trainer.state.output[0]
    assert output["gradient_penalty"] > 0 and output["local_gradient_penalty"] > 0
    assert output["gradient_penalty"] != output["local_gradient_penalty"]


def test_a_crop_that_does_not_fit_is_refused(play, refused):
    for size in ((0, 4, 4), (4, 4)):
        with refused(where="local_size", found=str(size)):
            LocalDiscriminator(play.voxels(9, 1), play.voxels(9, 1), size, find)
    judge, data = LocalDiscriminator(play.voxels(9, 1), play.voxels(9, 1), (4, 9, 4), find), batch()
    with refused(where="local_size", expected="(8, 8, 8)"):
        judge(data["image"], data["own_condition"])
