"""Supervised training of a segmenter: one iteration. ``run_handlers`` adds the rest of the run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer, default_prepare_batch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mrsynth.checks import whole_number
from mrsynth.manifest import check_overlap
from mrsynth.training.checkpoint import load_weights
from mrsynth.training.distributed import unwrap, wrap
from mrsynth.training.precision import Precision
from mrsynth.training.sampling import seed_everything


class SegmentationTrainer(SupervisedTrainer):
    """MONAI's supervised trainer with mrsynth's precision, distribution and seeds, and an end at ``max_iterations``.

    MONAI's own autocasts on CUDA alone and keeps whole predictions as its output. Here ``state.output`` is
    ``[{"loss": float}]``.

    Args:
        device: of the network.
        max_epochs: epochs in all, those before a resume included.
        train_data_loader: yields batches, dictionaries.
        network: returns logits; wrapped for a distributed run here.
        optimizer: over its parameters.
        loss_function: of the network's output in float32 and the label.
        max_iterations: optimizer steps in all; goes before ``max_epochs``. An epoch that it cuts short is validated
            and its weights are kept if they are best, but it is no place to resume from.
        scheduler: learning rate, stepped after each iteration.
        prepare_batch: from a batch to (input, label) or (input, label, args, kwargs) for the network.
        precision: mixed precision; float32 when None.
        gradient_clip: greatest norm of all gradients together; None for no limit.
        seed: of the draws inside an iteration (dropout), a function of (seed, rank, iteration).
        handlers: Ignite handlers.

    Raises:
        UserError: ``max_iterations`` below 1.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable,
        max_iterations: int | None = None,
        scheduler: LRScheduler | None = None,
        prepare_batch: Callable = default_prepare_batch,
        precision: Precision | None = None,
        gradient_clip: float | None = None,
        seed: int = 0,
        handlers: Sequence[Any] | None = None,
    ) -> None:
        length = len(train_data_loader)  # type: ignore[arg-type]
        if max_iterations is not None:
            length = min(length, whole_number("max_iterations", max_iterations, 1))
            max_epochs = math.ceil(max_iterations / max(length, 1))
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            epoch_length=length or None,
            prepare_batch=prepare_batch,
            decollate=False,
        )
        self.wrapped = wrap(network, self.state.device)
        self.scheduler, self.seed, self.gradient_clip = scheduler, seed, gradient_clip
        self.max_iterations = max_iterations
        self.precision = precision or Precision("none", self.state.device)
        self.loss_scaler = self.precision.scaler()
        if max_iterations is not None:
            self.add_event_handler(Events.ITERATION_COMPLETED(once=max_iterations), lambda e: e.terminate_epoch())
        self._register_handlers(list(handlers or []))

    def objects_to_save(self) -> dict[str, Any]:
        """Everything with a state that a resumed run needs, by name."""
        objects = {"network": unwrap(self.wrapped), "optimizer": self.optimizer, "scaler": self.loss_scaler}
        return objects if self.scheduler is None else {**objects, "scheduler": self.scheduler}

    def run(self) -> None:  # type: ignore[override]
        """Train to the end; a complete run does nothing."""
        if self.state.epoch < self.state.max_epochs:
            super().run()

    def _iteration(self, engine: Any, batchdata: Any) -> list[dict[str, float]]:  # type: ignore[override]
        seed_everything(self.seed, engine.state.rank, engine.state.iteration - 1)
        image, label, *rest = self.prepare_batch(batchdata, self.state.device, self.non_blocking)
        args, kwargs = rest or ((), {})
        self.wrapped.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            logits = self.wrapped(image, *args, **kwargs)
        loss = self.loss_function(logits.float(), label)
        self.loss_scaler.scale(loss).backward()
        if self.gradient_clip is not None:
            self.loss_scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.wrapped.parameters(), self.gradient_clip)
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()
        if self.scheduler is not None:
            self.scheduler.step()
        return [{"loss": float(loss.detach())}]


def initialize(
    network: nn.Module, weights: str | os.PathLike | None, held_out: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Start ``network`` from trained weights, to fine-tune it.

    Args:
        network: of the same shape.
        weights: ``model.pt``; None leaves the network as it is.
        held_out: datalist items of validation and test subjects, whom the weights must not have seen.

    Returns:
        ``subjects`` that the weights were trained on, who count as training subjects of what comes of them, and their
        ``patients`` and ``fingerprints`` by subject id where known; all empty without weights.

    Raises:
        UserError: no such weights, another network's, or weights that have seen a held-out subject.
    """
    if weights is None:
        return {"subjects": [], "patients": {}, "fingerprints": {}}
    record = load_weights(network, weights, "give the model.pt of another training, or null to start from nothing")
    check_overlap(record, held_out, weights)
    network.train()
    known = {name: dict(record.get(name, {})) for name in ("patients", "fingerprints")}
    return {"subjects": list(record["subjects"]), **known}
