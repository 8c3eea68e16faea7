"""The two-player trainer: whose gradient is what, and what it says of itself."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from ignite.engine import Events
from ignite.handlers import EMAHandler
from torch import nn

from mrsynth.adversarial import (
    L1,
    Alternating,
    DiscriminatorSteps,
    GameEvents,
    GradientPenalty,
    Hinge,
    LatentRound,
    LeastSquares,
    NonSaturating,
    Simultaneous,
    TransplantRound,
    Wasserstein,
)
from mrsynth.networks import add_spectral_norm
from mrsynth.training import Precision, seed_everything

CPU = torch.device("cpu")


def gradients(network: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in network.parameters()]


def close(found, expected, **tolerances) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerances)


def players(play):
    torch.manual_seed(0)
    return play.voxels(5, 4), play.voxels(9, 1)


TRANSPLANT = {"objective": LeastSquares(), "round": TransplantRound(own_label=True), "terms": [L1(20.0)]}


def test_both_moves_of_an_iteration_are_those_computed_apart(play):
    """Discriminator on the fake, then generator on the new discriminator; a shared forward pass changes nothing."""
    generator, discriminator = players(play)
    (batch,) = play.transplants(1)
    apart_generator, apart_discriminator = copy.deepcopy(generator), copy.deepcopy(discriminator)
    shown, objective = TransplantRound(own_label=True)(batch, CPU), LeastSquares()

    fake = apart_generator(shown.generator_input)
    real_logits = apart_discriminator(shown.real, shown.real_condition)
    fake_logits = apart_discriminator(fake.detach(), shown.fake_condition)
    sum(objective.discriminator(real_logits, fake_logits).values()).backward()
    torch.optim.SGD(apart_discriminator.parameters(), lr=0.1).step()
    logits = apart_discriminator(apart_generator(shown.generator_input), shown.fake_condition)
    loss = objective.generator(logits) + 20 * L1(1.0)(shown, apart_generator(shown.generator_input))
    expected = torch.autograd.grad(loss, list(apart_generator.parameters()))

    calls = []
    generator.register_forward_hook(lambda *_: calls.append(1))
    trainer = play.game([batch], generator, discriminator, schedule=Simultaneous(), **TRANSPLANT)
    trainer.run()
    assert len(calls) == 1
    close(gradients(discriminator), gradients(apart_discriminator))
    close(gradients(generator), expected)
    close(discriminator.parameters(), apart_discriminator.parameters())


def test_the_discriminator_is_frozen_while_the_generator_moves(play):
    generator, discriminator = play.mlp(2, 2), play.mlp(2, 1)
    trainer = play.game(play.gaussian(2), generator, discriminator, schedule=Alternating())
    kept, required = [], []
    trainer.add_event_handler(GameEvents.DISCRIMINATOR_MOVED, lambda: kept.extend(gradients(discriminator)))
    trainer.add_event_handler(
        GameEvents.GENERATOR_MOVED, lambda: required.extend(p.requires_grad for p in discriminator.parameters())
    )

    @discriminator.register_forward_pre_hook
    def _(module, inputs):
        if trainer.state.iteration == 2:
            required.extend(p.requires_grad for p in discriminator.parameters())

    trainer.run()
    assert required == [False] * 4 + [True] * 4  # during the move, and after it
    assert all(torch.equal(a, b) for a, b in zip(kept, gradients(discriminator), strict=True))
    assert all(p.grad is not None for p in generator.parameters())


def test_the_generator_has_no_gradient_in_the_discriminators_move(play):
    generator = play.mlp(2, 2)
    play.game(play.gaussian(4), generator, play.mlp(2, 1), schedule=DiscriminatorSteps(5)).run()
    assert all(p.grad is None for p in generator.parameters())


@pytest.mark.parametrize("schedule", [Simultaneous(), Alternating()])
@pytest.mark.parametrize("objective", [LeastSquares(), Hinge()])
def test_a_batch_in_parts_moves_as_the_batch_at_once(play, schedule, objective):
    results = []
    for accumulation in (1, 2):
        generator, discriminator = players(play)
        parts = {**TRANSPLANT, "objective": objective, "schedule": schedule, "accumulation": accumulation}
        trainer = play.game(play.transplants(2, size=2), generator, discriminator, **parts)
        trainer.run()
        results.append(([*generator.parameters(), *discriminator.parameters()], dict(trainer.state.output[0])))
    close(results[0][0], results[1][0], atol=1e-6, rtol=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-4)


def test_a_batch_that_cannot_be_cut_is_refused(play, refused):
    with refused(expected="accumulation of at least 1", found="0"):
        play.game(play.gaussian(1), play.mlp(2, 2), play.mlp(2, 1), accumulation=0)
    trainer = play.game(play.gaussian(1, size=3), play.mlp(2, 2), play.mlp(2, 1), accumulation=2)
    with refused(expected="accumulation divides", found="batch_size 3, accumulation 2"):
        trainer.run()


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_every_precision_stays_finite_and_keeps_float32_weights(play, amp):
    generator, discriminator = players(play)
    add_spectral_norm(discriminator)
    precision = Precision(amp, "cpu")
    trainer = play.game(
        play.transplants(6), generator, discriminator, schedule=Simultaneous(), precision=precision, **TRANSPLANT
    )
    before = copy.deepcopy(generator.state_dict())
    types = []
    generator.layers[0].register_forward_hook(lambda m, i, output: types.append(output.dtype))
    trainer.run()
    assert set(types) == {precision.dtype}
    assert trainer.generator_scaler.is_enabled() == (amp == "fp16")
    assert all(math.isfinite(v) for v in trainer.state.output[0].values())
    for network in (generator, discriminator):
        assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in network.parameters())
    assert any(not torch.equal(before[k], v) for k, v in generator.state_dict().items())


@pytest.mark.parametrize(("amp", "likeness"), [("bf16", 0.98), ("fp16", 0.9)])
def test_reduced_precision_moves_nearly_as_full_precision(play, amp, likeness):
    # in fp16 the first steps are lost, until the scaler has found its factor
    moved = []
    for name in ("none", amp):
        generator, discriminator = players(play)
        start = torch.cat([p.detach().flatten() for p in generator.parameters()])
        play.game(play.transplants(12), generator, discriminator, precision=Precision(name, "cpu"), **TRANSPLANT).run()
        moved.append(torch.cat([p.detach().flatten() for p in generator.parameters()]) - start)
    assert torch.nn.functional.cosine_similarity(*moved, dim=0) > likeness


def test_the_penalty_stays_finite_in_fp16(play):
    torch.manual_seed(0)
    discriminator = play.mlp(2, 1)
    trainer = play.game(
        play.gaussian(5),
        play.mlp(2, 2),
        discriminator,
        objective=Wasserstein(),
        constraint=GradientPenalty(10.0),
        precision=Precision("fp16", "cpu"),
    )
    trainer.run()
    assert math.isfinite(trainer.state.output[0]["gradient_penalty"])
    assert all(torch.isfinite(p).all() for p in discriminator.parameters())


def test_precision_goes_by_name(refused):
    with refused(expected="none, bf16, fp16 or auto", found="fp8", where="amp"):
        Precision("fp8", "cpu")
    assert Precision(False, "cpu").name == Precision(None, "cpu").name == "none"
    assert Precision(True, "cpu").name == Precision("auto", "cpu").name in ("none", "bf16")


def test_the_moving_average_follows_the_generators_moves_and_nothing_else(play):
    generator, discriminator = play.mlp(2, 2), play.mlp(2, 1)
    ema = EMAHandler(generator, momentum=0.25)
    expected = [p.detach().clone() for p in generator.parameters()]
    trainer = play.game(play.gaussian(6), generator, discriminator, schedule=Alternating(), ema=ema)

    @trainer.on(GameEvents.GENERATOR_MOVED)
    def _():
        for average, parameter in zip(expected, generator.parameters(), strict=True):
            average.mul_(0.75).add_(0.25 * parameter.detach())

    trainer.run()
    close(ema.ema_model.parameters(), expected)
    assert trainer.objects_to_save()["ema"] is ema.ema_model


def test_it_reports_the_loss_of_each_player_and_every_term_by_name(play):
    generator, discriminator = players(play)
    trainer = play.game(play.transplants(2), generator, discriminator, schedule=Alternating(), **TRANSPLANT)
    outputs = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(dict(e.state.output[0])))
    trainer.run()
    discriminators, generators = outputs
    assert set(discriminators) == {
        "loss",
        "discriminator_loss",
        "generator_loss",
        "discriminator_real",
        "discriminator_fake",
    }
    assert set(generators) == {"loss", "discriminator_loss", "generator_loss", "adversarial", "l1"}
    assert math.isnan(discriminators["generator_loss"])
    assert discriminators["loss"] == discriminators["discriminator_loss"]
    assert discriminators["discriminator_loss"] == pytest.approx(
        discriminators["discriminator_real"] + discriminators["discriminator_fake"]
    )
    assert generators["loss"] == generators["generator_loss"]
    assert generators["generator_loss"] == pytest.approx(generators["adversarial"] + generators["l1"])
    assert generators["discriminator_loss"] == discriminators["discriminator_loss"]  # that of its latest move
    assert all(isinstance(v, float) for v in (discriminators | generators).values())


def test_terms_are_reported_weighted(play):
    reported = []
    for weight in (1.0, 20.0):
        generator, discriminator = players(play)
        trainer = play.game(play.transplants(1), generator, discriminator, **{**TRANSPLANT, "terms": [L1(weight)]})
        trainer.run()
        reported.append(trainer.state.output[0]["l1"])
    assert reported[1] == pytest.approx(20 * reported[0])


def test_draws_of_an_iteration_depend_on_its_number_and_not_on_what_was_drawn_before(play):
    def noises(first_iteration: int, disturb: bool):
        drawn = []

        class Recorder(LatentRound):
            def __call__(self, batch, device):
                shown = super().__call__(batch, device)
                drawn.append(shown.generator_input)
                return shown

        trainer = play.game(play.gaussian(3), play.mlp(2, 2), play.mlp(2, 1), epochs=2, round=Recorder(2), seed=5)
        trainer.state.epoch, trainer.state.iteration = first_iteration // 3, first_iteration
        if disturb:
            trainer.add_event_handler(Events.ITERATION_STARTED, lambda: torch.randn(7))
        trainer.run()
        return drawn

    whole, disturbed, resumed = noises(0, False), noises(0, True), noises(3, False)
    assert len(whole) == 6 and len(resumed) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole, disturbed, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], resumed, strict=True))
    seed_everything(5, 0, 4)
    assert torch.equal(torch.randn(8, 2), whole[4])


def test_a_run_that_has_got_there_does_nothing(play):
    trainer = play.game(play.gaussian(2), play.mlp(2, 2), play.mlp(2, 1), epochs=1)
    trainer.state.epoch, trainer.state.iteration = 1, 2
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: pytest.fail("moved"))
    trainer.run()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, betas=(0.0, 0.9))


@pytest.mark.parametrize(
    ("objective", "constraint", "schedule"),
    [(Wasserstein(), GradientPenalty(1.0), DiscriminatorSteps(3)), (NonSaturating(), None, Simultaneous())],
    ids=["WGAN-GP", "non-saturating"],
)
def test_playing_moves_the_generators_points_onto_the_data(play, objective, constraint, schedule):
    torch.manual_seed(0)
    generator, discriminator = play.mlp(2, 2), play.mlp(2, 1)
    trainer = play.game(
        play.gaussian(600, size=64, mean=3.0),
        generator,
        discriminator,
        objective=objective,
        constraint=constraint,
        schedule=schedule,
        optimizer=adam,
    )

    def distance() -> float:
        with torch.no_grad():
            return float((generator(torch.randn(2000, 2)).mean(dim=0) - 3).norm())

    before = distance()
    trainer.run()
    assert before > 3 and distance() < 0.5
