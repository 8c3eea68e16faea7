"""The handlers of any training, of a generator or a segmenter: progress, validation, pictures, checkpoints, resume."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.handlers import TensorBoardStatsHandler
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mrsynth.errors import UserError
from mrsynth.manifest import check_overlap
from mrsynth.settings import Settings
from mrsynth.training.checkpoint import CHECKPOINT, WEIGHTS, load_checkpoint, save_checkpoint, save_weights
from mrsynth.training.distributed import barrier
from mrsynth.training.history import History
from mrsynth.training.hyperparameters import hyperparameters
from mrsynth.training.montage import Picture
from mrsynth.training.run import Run

logger = logging.getLogger(__name__)


def run_handlers(
    settings: Settings,
    subjects: Mapping[str, Sequence[Mapping[str, Any]]],
    network: nn.Module,
    validator: Any = None,
    montage: Callable[[], Picture] | None = None,
    initial: Mapping[str, Any] | None = None,
) -> list[Any]:
    """The handlers of a training, in the order in which they act. Attach them after all others.

    Progress bar with the losses; TensorBoard scalars and images; validation; a montage; loss curves;
    ``models/checkpoint.pt`` at each epoch's end, whole or not at all; ``models/model.pt``, the weights of the best
    validated epoch (of the latest, where nothing is validated); at the end what was made and what to type next.

    The engine must be a trainer with ``objects_to_save()``. Its loader's sampler may have ``set_epoch``, and it may
    have ``max_iterations``, an end within an epoch: such an epoch is validated and drawn, but is no place to resume
    from.

    While it trains, a run holds ``models/run.lock``: a second training in the same ``output_dir`` is refused.

    Args:
        settings: see :class:`Run`; a resumed run must share those that are recorded. The engine's own hyper-parameters
            (optimizers, parts of the game) are recorded and compared too.
        subjects: datalist items by section.
        network: whose weights go to ``model.pt`` (a generator's moving average, say).
        validator: evaluator with a key metric, run every ``validate_every`` epochs and after the last; one whose loader
            is empty is left out. Its ``better`` says whether a ``higher`` metric (by default) or a ``lower`` one is
            better; its ``also_best`` names further files of weights, each of the epoch that is best by another metric.
        montage: gives the picture, in evaluation mode; its ``look_for`` is a line for the person who looks at it.
        initial: see :class:`Run`.

    Raises:
        UserError: an interval that is negative or no whole number.
    """
    run = Run(settings, subjects, initial)
    if not run.validate_every or len(getattr(validator, "data_loader", [1])) == 0:
        validator = None
    montage = montage if run.montage_every else None
    log = Log(run)
    return [
        Start(run),
        StopIfDiverged(),
        log,
        KeepBest(run, network, validator, log),
        *([DrawMontage(run, montage, log)] if montage else []),
        SaveCheckpoint(run, log),
        Finish(run, log, getattr(montage, "look_for", "")),
    ]


class Start:
    """Prepares the folders, restores the engine's state if the run resumes, and tells the sampler each epoch."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def attach(self, engine: Any) -> None:
        """Act at once, and register with ``engine``."""
        if not engine.state.epoch_length or not engine.state.max_epochs or engine.state.max_epochs < 1:
            raise UserError(
                "at least one epoch of at least one batch",
                f"{engine.state.max_epochs} epochs of {engine.state.epoch_length} batches",
                "max_epochs, batch_size, number of processes",
                "lower batch_size or the number of processes, raise max_epochs, or add subjects",
            )
        self.run.hyperparameters = hyperparameters(engine)
        if self.run.main:
            self.run.prepare_folders()
        barrier()
        try:
            self._restore(engine)
        except BaseException:
            self.run.unlock()
            raise
        sampler = getattr(engine.data_loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            engine.add_event_handler(Events.EPOCH_STARTED, lambda e: sampler.set_epoch(e.state.epoch))

    def _restore(self, engine: Any) -> None:
        run, path = self.run, self.run.models / CHECKPOINT
        if not run.resume:
            if run.main and path.is_file():
                os.replace(path, path.with_name("checkpoint.previous.pt"))
            return
        if not path.is_file():
            if run.main:
                logger.info(f"Nothing to resume in {run.models}: starting from the first epoch.")
            return
        stored = load_checkpoint(path, engine.objects_to_save())
        check_overlap(stored, run.test_subjects, path)
        if "hyperparameters" not in stored:
            raise UserError(
                "a checkpoint that records its hyper-parameters",
                "a checkpoint of an older version, which does not",
                path,
                "start again without --resume",
            )
        mine = _compared(engine.state.epoch_length, run.record)
        theirs = _compared(stored["epoch_length"], stored)
        if differing := sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k)):
            raise UserError(
                f"the settings that the checkpoint was made with: { {k: _brief(theirs.get(k)) for k in differing} }",
                f"{ {k: _brief(mine.get(k)) for k in differing} }",
                path,
                "give the same settings, overlays and data, or start without --resume",
            )
        engine.state.epoch = stored["epoch"]
        engine.state.iteration = stored["epoch"] * stored["epoch_length"]
        run.best = dict(stored["best"])
        if hasattr(engine, "latest"):
            engine.latest.update(stored["latest"])
        if run.main:
            logger.info(f"Resumed after epoch {stored['epoch']} of {engine.state.max_epochs}.")
            if stored["epoch"] >= engine.state.max_epochs:
                # a learning rate that has come down to its end cannot be stretched
                scheduled = "scheduler" in engine.objects_to_save()
                further = "fine-tune its weights (--initial_weights)" if scheduled else "raise --max_epochs to train on"
                logger.info(f"This run is complete: {further}.")
                run.unlock()  # its trainer does nothing, so no event releases the lock


class StopIfDiverged:
    """Ends the run when a loss or a weight becomes NaN or infinite, before anything of it is saved."""

    def attach(self, engine: Any) -> None:
        """Register with ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._check_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check_weights)

    def _check_loss(self, engine: Any) -> None:
        if not math.isfinite(scalars(engine.state.output)["loss"]):
            raise diverged("finite losses", engine)

    def _check_weights(self, engine: Any) -> None:
        for name, item in engine.objects_to_save().items():
            if isinstance(item, nn.Module) and not all(torch.isfinite(v).all() for v in item.state_dict().values()):
                raise diverged(f"finite weights of {name}", engine)


class Log:
    """Progress bar, ``logs/history.csv`` and TensorBoard."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def attach(self, engine: Any) -> None:
        """Open the files, and register with ``engine``."""
        if not self.run.main:
            return
        self.history = History(self.run.logs / "history.csv", engine.state.epoch)
        self.writer = SummaryWriter(str(self.run.logs / "tensorboard"), purge_step=engine.state.iteration or None)
        engine.add_event_handler(Events.STARTED, self._open_bar)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log)
        stats = TensorBoardStatsHandler(
            self.writer,
            iteration_log=True,
            epoch_log=False,
            output_transform=lambda o: {k: v for k, v in scalars(o).items() if math.isfinite(v)},
        )
        stats.attach(engine)

    def add(self, engine: Any, values: dict[str, float]) -> None:
        """Add the scalars of a validation."""
        if self.run.main:
            self.history.add(engine.state.epoch, engine.state.iteration, values)
            for key, scalar in values.items():
                self.writer.add_scalar(key, scalar, engine.state.iteration)

    def close(self) -> None:
        """Close the bar and TensorBoard's file."""
        if hasattr(self, "bar"):
            self.bar.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.writer.close()

    def _open_bar(self, engine: Any) -> None:
        total = getattr(engine, "max_iterations", None) or engine.state.max_epochs * engine.state.epoch_length
        self.bar = tqdm(total=total, initial=engine.state.iteration, unit="it", file=sys.stdout, dynamic_ncols=True)

    def _log(self, engine: Any) -> None:
        values = scalars(engine.state.output)
        self.history.add(engine.state.epoch, engine.state.iteration, values)
        shown = {
            k.replace("_loss", ""): f"{v:.3f}" for k, v in sorted(values.items()) if k.endswith("_loss") or k == "l1"
        }
        shown = shown or {"loss": f"{values['loss']:.3f}"}
        best = self.run.best.get(WEIGHTS, {}).items()
        self.bar.set_description(f"epoch {engine.state.epoch}/{engine.state.max_epochs}")
        self.bar.set_postfix(shown | {k: f"{v:.3f}" for k, v in best if k.startswith("best")}, refresh=False)
        self.bar.update()


class KeepBest:
    """Validates on every rank, since metrics gather from all ranks, and keeps the best epoch's weights."""

    def __init__(self, run: Run, network: nn.Module, validator: Any, log: Log) -> None:
        self.run, self.network, self.validator, self.log = run, network, validator, log
        self.sign = {"higher": 1.0, "lower": -1.0}[getattr(validator, "better", "higher")]
        self.also_best = dict(getattr(validator, "also_best", {}))

    def attach(self, engine: Any) -> None:
        """Register with ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def _end_epoch(self, engine: Any) -> None:
        improved = [WEIGHTS] if self.validator is None else []
        if self.validator is not None and _due(engine, self.run.validate_every):
            improved = self._validate(engine)
        if self.run.main:
            for file in improved:
                metrics = self.run.best.get(file, {}) if self.validator else {}
                record = {"epoch": engine.state.epoch, **self.run.record, "metrics": metrics}
                save_weights(self.network, self.run.models / file, record)

    def _validate(self, engine: Any) -> list[str]:
        """Run the validator; returns the files of weights that this epoch is the best for."""
        with torch.no_grad():
            self.validator.run(engine.state.epoch)
        state = self.validator.state
        values = {k: float(v) for k, v in state.metrics.items() if isinstance(v, (int, float, torch.Tensor))}
        self.log.add(engine, values)
        improved = []
        for file, name in {WEIGHTS: state.key_metric_name, **self.also_best}.items():
            value, known = values[name], self.run.best.get(file)
            if known is None or self.sign * (value - known[f"best_{name}"]) > 0:
                self.run.best[file] = {f"best_{name}": value, "at_epoch": float(engine.state.epoch)}
                improved.append(file)
        return improved


class DrawMontage:
    """Writes ``logs/montage/epoch_00005.png`` and shows it in TensorBoard."""

    def __init__(self, run: Run, montage: Callable[[], Picture], log: Log) -> None:
        self.run, self.montage, self.log = run, montage, log

    def attach(self, engine: Any) -> None:
        """Register with ``engine``."""
        if self.run.main:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _draw(self, engine: Any) -> None:
        epoch = engine.state.epoch
        if _due(engine, self.run.montage_every):
            self.run.picture = self.run.logs / "montage" / f"epoch_{epoch:05d}.png"
            mosaic = self.montage().save(self.run.picture, f"epoch {epoch}")
            self.log.writer.add_image("montage", mosaic, engine.state.iteration, dataformats="HWC")


class SaveCheckpoint:
    """Writes the history, and after every whole epoch that is due ``models/checkpoint.pt``."""

    def __init__(self, run: Run, log: Log) -> None:
        self.run, self.log = run, log

    def attach(self, engine: Any) -> None:
        """Register with ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _save(self, engine: Any) -> None:
        epoch, length = engine.state.epoch, engine.state.epoch_length
        if self.run.main:
            self.log.history.save()
        whole = engine.state.iteration == epoch * length  # not cut short by max_iterations
        if self.run.main and whole and _due(engine, self.run.checkpoint_every):
            facts = {
                "epoch": epoch,
                "epoch_length": length,
                **self.run.record,
                "best": self.run.best,
                "latest": dict(getattr(engine, "latest", {})),
            }
            save_checkpoint(self.run.models / CHECKPOINT, engine.objects_to_save(), facts)
        barrier()


class Finish:
    """Draws the curves, closes the files, releases the lock, and prints what was made and what to type next."""

    def __init__(self, run: Run, log: Log, look_for: str = "") -> None:
        self.run, self.log, self.look_for = run, log, look_for

    def attach(self, engine: Any) -> None:
        """Register with ``engine``."""
        if self.run.main:
            engine.add_event_handler(Events.COMPLETED, self._finish)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _finish(self) -> None:
        self.log.history.draw(self.run.logs / "curves.png")
        self._close()
        logger.info(self.run.summary(self.look_for))

    def _fail(self, engine: Any, error: BaseException) -> None:
        self._close()
        raise error

    def _close(self) -> None:
        self.log.close()
        self.run.unlock()


def diverged(expected: str, engine: Any) -> UserError:
    """The error for a run whose loss or weights became NaN or infinite."""
    return UserError(
        expected,
        f"{scalars(engine.state.output)} at iteration {engine.state.iteration}",
        "training",
        "lower learning_rate, or pass --amp none; the last checkpoint is sound",
    )


def scalars(output: Any) -> dict[str, float]:
    """The scalars of an iteration's output, which is a dictionary or a list of them (the first is used)."""
    first = output[0] if isinstance(output, list) else output
    return {
        name: float(value)
        for name, value in first.items()
        if isinstance(value, float) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    }


def _due(engine: Any, every: int) -> bool:
    return engine.state.epoch % every == 0 or engine.state.epoch == engine.state.max_epochs


def _compared(epoch_length: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run must share."""
    return {
        "epoch_length": epoch_length,
        **record["hyperparameters"],
        **record["settings"],
        "subjects": record["subjects"],
    }


def _brief(value: Any) -> Any:
    return f"{len(value)} items" if isinstance(value, (list, tuple)) and len(value) > 6 else value
