"""A run small enough to be started, stopped and resumed within a test: a line fitted to points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from monai.engines import Trainer
from monai.transforms import Randomizable, Transform
from torch import nn

from mrsynth.settings import Settings
from mrsynth.training import SeededDataset, SeededSampler, run_handlers


class Jitter(Randomizable, Transform):
    """Adds a random number; the draw is recorded."""

    def __call__(self, data: dict) -> dict:
        drawn = float(self.R.uniform())
        return {**data, "drawn": drawn, "x": data["x"] + drawn}


class Line(Trainer):
    """A trainer with ``objects_to_save``, as :func:`run_handlers` asks; one subject an iteration."""

    def __init__(
        self,
        loader,
        network: nn.Module,
        max_epochs: int,
        handlers: list,
        loss: Callable | None = None,
        learning_rate: float = 0.01,
    ) -> None:
        super().__init__("cpu", max_epochs, loader, decollate=False)
        self.network, self.optimizer = network, torch.optim.Adam(network.parameters(), lr=learning_rate)
        self.loss = loss or (lambda engine, error: error.square().mean())
        self.seen: list[tuple[int, int, float]] = []
        self._register_handlers(handlers)

    def objects_to_save(self) -> dict:
        return {"network": self.network, "optimizer": self.optimizer}

    def run(self) -> None:
        if self.state.epoch < self.state.max_epochs:
            super().run()

    def _iteration(self, engine, batch) -> dict[str, float]:
        self.seen.append((engine.state.epoch, int(batch["subject"][0]), float(batch["drawn"][0])))
        x = batch["x"].float()
        self.optimizer.zero_grad()
        loss = self.loss(engine, self.network(x[:, None]) - 2 * x[:, None])
        loss.backward()
        self.optimizer.step()
        return {"loss": float(loss.detach())}


class Validator:
    """Stands in for an evaluator: its key metric takes the ``values`` in turn, and ``other`` those of ``others``."""

    def __init__(self, values: list[float], others: list[float] | None = None, better: str = "higher") -> None:
        self.values, self.better, self.also_best = zip(values, others or values, strict=True), better, {}

        class State:
            key_metric_name = "score"

        self.state = State()

    def run(self, epoch: int) -> None:
        self.state.metrics = dict(zip(("score", "other"), next(self.values), strict=True))


def line(
    folder: Path,
    epochs: int,
    resume: bool = False,
    workers: int = 0,
    loss: Callable | None = None,
    width: int = 3,
    learning_rate: float = 0.01,
    **options,
) -> Line:
    """A run of ``epochs`` epochs of five subjects, writing below ``folder``."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
    data = [{"subject": i, "x": float(i)} for i in range(5)]
    dataset = SeededDataset(data, [], [Jitter()], seed=3, cache="none")
    loader = torch.utils.data.DataLoader(
        dataset,
        sampler=SeededSampler(5, seed=3),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    return Line(loader, network, epochs, handlers(folder, network, resume=resume, **options), loss, learning_rate)


def handlers(
    folder: Path,
    network: nn.Module,
    subjects: Sequence[str] = tuple(f"S{i}" for i in range(5)),
    test_subjects: Sequence[dict] = (),
    settings: dict | None = None,
    patients: dict[str, str] | None = None,
    **options,
) -> list:
    """The handlers of a run; ``options`` are settings of this run alone, or arguments of :func:`run_handlers`."""
    arguments = {name: options.pop(name) for name in ("validator", "montage", "initial") if name in options}
    items = [{"subject": name, "patient": (patients or {}).get(name)} for name in subjects]
    others = [{"subject": name, "patient": patient} for name, patient in (patients or {}).items() if name not in subjects]
    sections = {"training": items, "validation": others, "test": list(test_subjects)}
    chosen = Settings({"seed": 3} if settings is None else settings, {"output_dir": str(folder), **options})
    return run_handlers(chosen, sections, network, **arguments)


@pytest.fixture(scope="session")
def fit() -> Callable:
    """:func:`line`, with ``Validator``, ``Jitter`` and ``handlers`` beside."""
    line.Validator, line.Jitter, line.handlers = Validator, Jitter, handlers
    return line
