"""TwoPlayerTrainer: one iteration of the game for every paper; the parts are objects that the config names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from ignite.engine import EventEnum
from ignite.handlers import EMAHandler
from monai.engines import Trainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mrsynth.adversarial.constraints import Constraint, by_part
from mrsynth.adversarial.objectives import Objective
from mrsynth.adversarial.rounds import GameBatch
from mrsynth.adversarial.schedules import Moves, Simultaneous
from mrsynth.adversarial.terms import Term
from mrsynth.errors import UserError
from mrsynth.networks import power_iteration
from mrsynth.training.distributed import unwrap, wrap
from mrsynth.training.precision import Precision
from mrsynth.training.sampling import seed_everything


class GameEvents(EventEnum):
    """Fired after a player's optimizer has stepped."""

    DISCRIMINATOR_MOVED = "discriminator_moved"
    GENERATOR_MOVED = "generator_moved"


class TwoPlayerTrainer(Trainer):
    """Train a generator against a discriminator.

    Each iteration takes one batch; the schedule says who moves on it. The discriminator is called as
    ``discriminator(image, condition)``, or ``discriminator(image)`` where the round gives no condition. A discriminator
    of several parts (:class:`~mrsynth.adversarial.LocalDiscriminator`) returns a dictionary of logits, by the prefix of
    each part's loss names; the objective applies to each part.

    ``state.output`` is, as in MONAI's other trainers, a list of dictionaries, here of one. It holds floats: ``loss``
    (sum over this iteration's moves), ``generator_loss`` and ``discriminator_loss`` (of the latest move of each; NaN
    before the first), and every term by its name.

    Args:
        device: where the networks are.
        max_epochs: epochs in all, those before a resume included.
        train_data_loader: yields batches, dictionaries.
        generator: network; wrapped for a distributed run here.
        discriminator: network, returns logits of any shape, or a dictionary of such.
        generator_optimizer: over the generator's parameters.
        discriminator_optimizer: over the discriminator's.
        objective: the pair of losses.
        round: a callable (batch, device) to :class:`~mrsynth.adversarial.rounds.GameBatch`.
        schedule: a callable from the iteration's number, from 0, to :class:`~mrsynth.adversarial.schedules.Moves`.
        constraint: on the discriminator.
        terms: added to the generator's loss.
        discriminator_weights: factor of the generator's adversarial loss for each part of the discriminator; 1 by
            default.
        precision: mixed precision; float32 when None.
        accumulation: a batch is played in this many parts whose gradients are added.
        ema: moving average of the generator, updated after each of its moves.
        seed: of the draws inside an iteration (noise, dropout), which are a function of (seed, rank, iteration).
        handlers: Ignite handlers.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        objective: Objective,
        round: Callable[[Mapping[str, Any], torch.device], GameBatch],
        schedule: Callable[[int], Moves] | None = None,
        constraint: Constraint | None = None,
        terms: Sequence[Term] = (),
        discriminator_weights: Mapping[str, float] | None = None,
        precision: Precision | None = None,
        accumulation: int = 1,
        ema: EMAHandler | None = None,
        seed: int = 0,
        handlers: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            iteration_update=lambda engine, batch: [self._iteration(engine, batch)],
            event_names=[GameEvents],
            decollate=False,
        )
        if accumulation < 1:
            raise UserError("accumulation of at least 1", str(accumulation), "accumulation", "pass --accumulation 1")
        self.generator, self.discriminator = (
            wrap(generator, self.state.device),
            wrap(discriminator, self.state.device),
        )
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.objective, self.round, self.schedule = objective, round, schedule or Simultaneous()
        self.constraint, self.terms = constraint or Constraint(), list(terms)
        self.discriminator_weights = dict(discriminator_weights or {})
        self.precision = precision or Precision("none", self.state.device)
        self.generator_scaler, self.discriminator_scaler = self.precision.scaler(), self.precision.scaler()
        self.accumulation, self.seed, self.ema = accumulation, seed, ema
        self.latest = {"generator_loss": float("nan"), "discriminator_loss": float("nan")}
        if ema is not None:
            ema.attach(self, event=GameEvents.GENERATOR_MOVED)
        # last, since a handler may look at any of the above (resuming does)
        self._register_handlers(list(handlers or []))

    def objects_to_save(self) -> dict[str, Any]:
        """Everything with a state that a resumed run needs, by name."""
        objects = {
            "network": unwrap(self.generator),
            "discriminator": unwrap(self.discriminator),
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "generator_scaler": self.generator_scaler,
            "discriminator_scaler": self.discriminator_scaler,
        }
        return objects if self.ema is None else {**objects, "ema": self.ema.ema_model}

    def run(self) -> None:  # type: ignore[override]
        """Train until ``max_epochs``; a complete run does nothing."""
        if self.state.epoch >= self.state.max_epochs:
            return
        super(Trainer, self).run()  # the parent's own scaler is not used

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, float]:
        iteration = engine.state.iteration - 1
        seed_everything(self.seed, engine.state.rank, iteration)
        moves = self.schedule(iteration)
        batches = [self.round(part, self.state.device) for part in self._parts(batchdata)]
        self.generator.train()
        self.discriminator.train()
        # held until the next iteration, so that every pass of this one sees the same weights
        power_iteration(unwrap(self.generator))
        power_iteration(unwrap(self.discriminator))
        output: dict[str, torch.Tensor] = {}
        shared: torch.Tensor | None = None
        if moves.discriminator:
            if moves.generator and len(batches) == 1:  # one forward pass serves both moves
                shared = self._generate(self.generator, batches[0])
            output.update(self._move_discriminator(batches, shared))
        if moves.generator:
            output.update(self._move_generator(batches, shared))
        values = {name: float(value) for name, value in output.items()}
        for name in self.latest:
            self.latest[name] = values.get(name, self.latest[name])
        loss = sum(values[name] for name in self.latest if name in values)
        return {"loss": loss, **values, **self.latest}

    def _parts(self, batch: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The batch cut into ``accumulation`` parts of equal size."""
        if self.accumulation == 1:
            return [batch]
        tensors = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
        size = len(next(iter(tensors.values())))
        if size % self.accumulation:
            raise UserError(
                "a batch size that accumulation divides",
                f"batch_size {size}, accumulation {self.accumulation}",
                "accumulation",
                f"pass --batch_size {self.accumulation} or a multiple of it, or --accumulation 1",
            )
        step = size // self.accumulation
        return [{k: v[i : i + step] for k, v in tensors.items()} for i in range(0, size, step)]

    def _generate(self, generator: nn.Module, batch: GameBatch) -> torch.Tensor:
        with self.precision.autocast():
            return generator(batch.generator_input)

    def _judge(
        self, discriminator: nn.Module, image: torch.Tensor, condition: torch.Tensor | None
    ) -> dict[str, torch.Tensor]:
        """Logits by part of the discriminator; a discriminator of one part has an empty prefix."""
        with self.precision.autocast():
            parts = by_part(discriminator(image) if condition is None else discriminator(image, condition))
        return {part: logits.float() for part, logits in parts.items()}

    def _move_discriminator(self, batches: list[GameBatch], shared: torch.Tensor | None) -> dict[str, torch.Tensor]:
        discriminator = self.discriminator
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        logged: dict[str, torch.Tensor] = {}
        for index, batch in enumerate(batches):
            if shared is None:
                with torch.no_grad():
                    fake = self._generate(unwrap(self.generator), batch)
            else:
                fake = shared.detach()
            with _unsynchronized(discriminator, index < len(batches) - 1):
                real = self._judge(discriminator, batch.real, batch.real_condition)
                judged = self._judge(discriminator, fake, batch.fake_condition)
                terms = {}
                for part, logits in real.items():
                    losses = self.objective.discriminator(logits, judged[part])
                    terms.update({part + name: loss for name, loss in losses.items()})
                with self.precision.autocast():  # a constraint that needs float32 says so
                    terms.update(self.constraint.penalty(discriminator, batch, fake))
                self._backward(terms, self.discriminator_scaler, len(batches), logged, "discriminator_loss")
        self.discriminator_scaler.step(self.discriminator_optimizer)
        self.discriminator_scaler.update()
        self.constraint.after_step(unwrap(discriminator))
        self.fire_event(GameEvents.DISCRIMINATOR_MOVED)
        return logged

    def _move_generator(self, batches: list[GameBatch], shared: torch.Tensor | None) -> dict[str, torch.Tensor]:
        discriminator = unwrap(self.discriminator)
        discriminator.requires_grad_(False)
        self.generator_optimizer.zero_grad(set_to_none=True)
        logged: dict[str, torch.Tensor] = {}
        for index, batch in enumerate(batches):
            with _unsynchronized(self.generator, index < len(batches) - 1):
                fake = self._generate(self.generator, batch) if shared is None else shared
                terms = {}
                for part, logits in self._judge(discriminator, fake, batch.fake_condition).items():
                    weight = self.discriminator_weights.get(part, 1)
                    terms[part + "adversarial"] = weight * self.objective.generator(logits)
                for term in self.terms:
                    terms[term.name] = term.weight * term(batch, fake)
                self._backward(terms, self.generator_scaler, len(batches), logged, "generator_loss")
        self.generator_scaler.step(self.generator_optimizer)
        self.generator_scaler.update()
        discriminator.requires_grad_(True)
        self.fire_event(GameEvents.GENERATOR_MOVED)
        return logged

    def _backward(
        self,
        terms: dict[str, torch.Tensor],
        scaler: torch.amp.GradScaler,
        parts: int,
        logged: dict[str, torch.Tensor],
        total_name: str,
    ) -> None:
        """One backward pass of the summed terms; means over the parts are added to ``logged``."""
        total = torch.stack(list(terms.values())).sum()
        scaler.scale(total / parts).backward()
        for name, value in {**terms, total_name: total}.items():
            logged[name] = logged.get(name, torch.zeros((), device=value.device)) + value.detach() / parts


def _unsynchronized(network: nn.Module, wanted: bool) -> ExitStack:
    """Context in which a distributed network does not exchange gradients, if ``wanted``."""
    stack = ExitStack()
    if wanted and isinstance(network, DistributedDataParallel):
        stack.enter_context(network.no_sync())
    return stack
