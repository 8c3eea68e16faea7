"""Who moves when."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from ignite.engine import Events

from mrsynth.adversarial import Alternating, DiscriminatorSteps, GameEvents, LatentRound, Simultaneous


def moves(schedule, iterations: int) -> str:
    """One letter an iteration: c, g, or b for both."""
    letters = {(True, True): "b", (True, False): "c", (False, True): "g"}
    return "".join(letters[schedule(i)] for i in range(iterations))


def test_orders_of_moves():
    assert moves(Simultaneous(), 4) == "bbbb"
    assert moves(DiscriminatorSteps(3), 7) == "ccbccbc"
    assert moves(DiscriminatorSteps(1), 2) == "bb"
    assert moves(Alternating(), 5) == "cgcgc"


def test_no_discriminator_move_is_refused(refused):
    with refused(expected="at least 1", found="0"):
        DiscriminatorSteps(0)


def weights(network) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_in_strict_turn_one_player_moves_and_the_others_weights_stand_still(play):
    generator, discriminator = play.mlp(2, 2), play.mlp(2, 1)
    trainer = play.game(play.gaussian(4), generator, discriminator, schedule=Alternating())
    seen = [(weights(discriminator), weights(generator))]
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: seen.append((weights(discriminator), weights(generator)))
    )
    trainer.run()
    changed = [tuple(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in pairwise(seen)]
    assert changed == [(True, False), (False, True)] * 2


def test_the_turn_survives_the_end_of_an_epoch(play):
    """Three iterations an epoch: the second epoch begins with the generator."""
    moved = []
    trainer = play.game(play.gaussian(3), play.mlp(2, 2), play.mlp(2, 1), epochs=2, schedule=Alternating())
    trainer.add_event_handler(GameEvents.DISCRIMINATOR_MOVED, lambda: moved.append("c"))
    trainer.add_event_handler(GameEvents.GENERATOR_MOVED, lambda: moved.append("g"))
    trainer.run()
    assert "".join(moved) == "cgcgcg"


@pytest.mark.parametrize("n_critic", [1, 2])
def test_each_discriminator_move_takes_a_fresh_batch(play, n_critic):
    seen, generated = [], []

    class Recorder:
        def __call__(self, batch, device):
            result = LatentRound(2)(batch, device)
            seen.append(result.real.clone())
            generated.append(result.generator_input.clone())
            return result

    trainer = play.game(
        play.gaussian(6), play.mlp(2, 2), play.mlp(2, 1), round=Recorder(), schedule=DiscriminatorSteps(n_critic)
    )
    counts = {"c": 0, "g": 0}
    trainer.add_event_handler(GameEvents.DISCRIMINATOR_MOVED, lambda: counts.update(c=counts["c"] + 1))
    trainer.add_event_handler(GameEvents.GENERATOR_MOVED, lambda: counts.update(g=counts["g"] + 1))
    trainer.run()
    assert counts == {"c": 6, "g": 6 // n_critic}
    assert all(torch.equal(a, b["image"]) for a, b in zip(seen, play.gaussian(6), strict=True))
    for group in (seen, generated):  # real and noise alike
        assert all(not torch.equal(a, b) for i, a in enumerate(group) for b in group[:i])
