"""One handler that makes any training a run a person can follow, stop and resume: generators and segmenters alike."""

from __future__ import annotations

import math
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from ignite.engine import Events
from monai.engines import Evaluator
from monai.handlers import TensorBoardStatsHandler
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mrsynth.errors import UserError
from mrsynth.files import unwritable
from mrsynth.home import cache_home
from mrsynth.manifest import check_overlap
from mrsynth.training.checkpoint import CHECKPOINT, WEIGHTS, load_checkpoint, save_checkpoint, save_weights
from mrsynth.training.distributed import barrier, rank
from mrsynth.training.history import History
from mrsynth.training.hyperparameters import hyperparameters
from mrsynth.training.montage import Picture


class RunHandlers:
    """Everything around the iterations of a run. Attach it last: it restores the engine's state when resuming.

    Progress bar with the losses; TensorBoard scalars and images; validation; a montage each epoch; loss curves;
    ``models/checkpoint.pt`` at each epoch's end, whole or not at all; ``models/model.pt``, the weights of the best
    validated epoch (of the latest, where nothing is validated); at the end what was made and what to type next.

    The engine must be a trainer with ``objects_to_save()``. Its loader's sampler may have ``set_epoch``, and it may
    have ``max_iterations``, an end within an epoch: such an epoch is validated and drawn, but is no place to resume
    from.

    While it trains, a run holds ``models/run.lock``: a second training in the same ``output_dir`` is refused. The lock
    belongs to the process, so a run that was killed does not leave it behind.

    Args:
        output_dir: ``models/`` and ``logs/`` are written below it, nothing elsewhere.
        network: whose weights go to ``model.pt`` (a generator's moving average, say).
        subjects: ids of the training subjects; for synthetic ones their parents too.
        patients: patient by subject id, where known; recorded with the weights.
        fingerprints: of the training images, by subject id; recorded with the weights.
        test_subjects: datalist items that a resumed checkpoint must not have seen.
        settings: plain facts that a resumed run must share, such as the grid and the seed. The engine's own
            hyper-parameters (optimisers, parts of the game) are recorded and compared too.
        resume: go on from the checkpoint, if there is one.
        validator: evaluator with a key metric; run each ``validate_every`` epochs and after the last.
        validate_every: epochs; 0 never validates.
        better: whether a ``higher`` or ``lower`` metric is better.
        also_best: further files of weights in ``models/``, each of the epoch that is best by another of the validator's
            metrics: the metric by the file's name.
        montage: gives the picture, in evaluation mode.
        montage_every: epochs; 0 draws no montage.
        checkpoint_every: epochs, at least 1.
        next_command: shown at the end.

    Raises:
        UserError: a negative number of epochs.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        network: nn.Module,
        subjects: Sequence[str],
        patients: Mapping[str, str] | None = None,
        test_subjects: Sequence[Mapping[str, Any]] = (),
        settings: Mapping[str, Any] | None = None,
        resume: bool = False,
        validator: Evaluator | None = None,
        validate_every: int = 1,
        better: str = "higher",
        also_best: Mapping[str, str] | None = None,
        montage: Callable[[], Picture] | None = None,
        montage_every: int = 1,
        checkpoint_every: int = 1,
        next_command: str = "",
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.fingerprints = dict(sorted((fingerprints or {}).items()))
        self.models, self.logs = Path(output_dir) / "models", Path(output_dir) / "logs"
        self.network, self.subjects, self.test_subjects = network, sorted(set(subjects)), list(test_subjects)
        self.patients = {i: patient for i, patient in sorted((patients or {}).items()) if i in self.subjects}
        for name, value, least in (
            ("validate_every", validate_every, 0),
            ("montage_every", montage_every, 0),
            ("checkpoint_every", checkpoint_every, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise UserError(f"a whole number of epochs, at least {least}", repr(value), name, f"pass --{name} 1")
        self.settings, self.resume = dict(settings or {}), resume
        self.validator, self.validate_every = validator if validate_every else None, validate_every
        self.sign = {"higher": 1.0, "lower": -1.0}[better]
        self.also_best = dict(also_best or {})
        self.montage, self.montage_every = montage if montage_every else None, montage_every
        self.checkpoint_every, self.next_command = checkpoint_every, next_command
        self.best: dict[str, dict[str, float]] = {}  # by file of weights
        self.picture: Path | None = None
        self.main = rank() == 0

    def attach(self, engine: Any) -> None:
        """Prepare the folders, restore the state if asked, and register with ``engine``."""
        if not engine.state.epoch_length or not engine.state.max_epochs or engine.state.max_epochs < 1:
            raise UserError(
                "at least one epoch of at least one batch",
                f"{engine.state.max_epochs} epochs of {engine.state.epoch_length} batches",
                "max_epochs, batch_size, number of processes",
                "lower batch_size or the number of processes, raise max_epochs, or add subjects",
            )
        self.hyperparameters = hyperparameters(engine)
        if self.main:
            self._prepare_folders()
        barrier()
        try:
            self._restore(engine)
        except BaseException:
            self._unlock()
            raise
        sampler = getattr(engine.data_loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            engine.add_event_handler(Events.EPOCH_STARTED, lambda e: sampler.set_epoch(e.state.epoch))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_if_diverged)
        if self.main:
            self.history = History(self.logs / "history.csv", engine.state.epoch)
            self.writer = SummaryWriter(str(self.logs / "tensorboard"), purge_step=engine.state.iteration or None)
            engine.add_event_handler(Events.STARTED, self._open_bar)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._log)
            stats = TensorBoardStatsHandler(
                self.writer,
                iteration_log=True,
                epoch_log=False,
                output_transform=lambda o: {k: v for k, v in scalars(o).items() if math.isfinite(v)},
            )
            stats.attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        if self.main:
            engine.add_event_handler(Events.COMPLETED, self._finish)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._close)

    def _prepare_folders(self) -> None:
        for folder in (self.models, self.logs):
            check_writable(folder)
        self._lock()
        for folder in (self.models, self.logs):
            for leftover in folder.glob(".tmp-*"):  # of a process that was killed while writing
                leftover.unlink()

    def _lock(self) -> None:
        path, owner = self.models / "run.lock", self.models / "run.pid"
        self.lock = FileLock(path, thread_local=False, is_singleton=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout as error:
            holder = owner.read_text(encoding="utf-8") if owner.is_file() else "unknown"
            raise UserError(
                "an output_dir in which no other training runs",
                f"process {holder} is training in it",
                self.models.parent,
                "wait for that process to end, or pass another --output_dir",
            ) from error
        owner.write_text(str(os.getpid()), encoding="utf-8")

    def _unlock(self) -> None:
        if self.main:
            (self.models / "run.pid").unlink(missing_ok=True)
            self.lock.release()

    def _restore(self, engine: Any) -> None:
        path = self.models / CHECKPOINT
        if not self.resume:
            if self.main and path.is_file():
                os.replace(path, path.with_name("checkpoint.previous.pt"))
            return
        if not path.is_file():
            if self.main:
                print(f"Nothing to resume in {self.models}: starting from the first epoch.", flush=True)
            return
        run = load_checkpoint(path, engine.objects_to_save())
        check_overlap(run, self.test_subjects, path)
        if "hyperparameters" not in run:
            raise UserError(
                "a checkpoint that records its hyper-parameters",
                "a checkpoint of an older version, which does not",
                path,
                "start again without --resume",
            )
        mine = {
            "epoch_length": engine.state.epoch_length,
            **self.hyperparameters,
            **self.settings,
            "subjects": self.subjects,
        }
        theirs = {
            "epoch_length": run["epoch_length"],
            **run["hyperparameters"],
            **run["settings"],
            "subjects": run["subjects"],
        }
        differing = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
        if differing:
            brief = {k: _brief(theirs.get(k)) for k in differing}
            raise UserError(
                f"the settings that the checkpoint was made with: {brief}",
                f"{ {k: _brief(mine.get(k)) for k in differing} }",
                path,
                "give the same settings and data, or start without --resume",
            )
        engine.state.epoch = run["epoch"]
        engine.state.iteration = run["epoch"] * run["epoch_length"]
        self.best = dict(run["best"])
        if hasattr(engine, "latest"):
            engine.latest.update(run["latest"])
        if self.main:
            print(f"Resumed after epoch {run['epoch']} of {engine.state.max_epochs}.", flush=True)
            if run["epoch"] >= engine.state.max_epochs:
                # a learning rate that has come down to its end cannot be stretched
                scheduled = "scheduler" in engine.objects_to_save()
                further = "fine-tune its weights (--initial_weights)" if scheduled else "raise --max_epochs to train on"
                print(f"This run is complete: {further}.", flush=True)
                self._unlock()  # its trainer does nothing, so no event releases the lock

    def _stop_if_diverged(self, engine: Any) -> None:
        if not math.isfinite(scalars(engine.state.output)["loss"]):
            raise diverged("finite losses", engine)

    def _stop_if_spoilt(self, engine: Any) -> None:
        """A step can spoil the weights although its loss was finite; nothing of that is saved."""
        for name, item in engine.objects_to_save().items():
            if isinstance(item, nn.Module) and not all(torch.isfinite(v).all() for v in item.state_dict().values()):
                raise diverged(f"finite weights of {name}", engine)

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
        self.bar.set_description(f"epoch {engine.state.epoch}/{engine.state.max_epochs}")
        self.bar.set_postfix(
            {**shown, **{k: f"{v:.3f}" for k, v in self.best.get(WEIGHTS, {}).items() if k.startswith("best")}},
            refresh=False,
        )
        self.bar.update()

    def _end_epoch(self, engine: Any) -> None:
        self._stop_if_spoilt(engine)
        epoch, last = engine.state.epoch, engine.state.epoch == engine.state.max_epochs
        improved = [WEIGHTS] if self.validator is None else []
        if self.validator is not None and (epoch % self.validate_every == 0 or last):
            improved = self._validate(engine)  # on every rank, since metrics gather what all ranks saw
        if self.main:
            if self.montage is not None and (epoch % self.montage_every == 0 or last):
                self._draw(epoch, engine.state.iteration)
            self.history.save()
            for file in improved:
                record = {
                    "epoch": epoch,
                    "settings": self.settings,
                    "hyperparameters": self.hyperparameters,
                    "subjects": self.subjects,
                    "patients": self.patients,
                    "fingerprints": self.fingerprints,
                    "metrics": self.best.get(file, {}) if self.validator else {},
                }
                save_weights(self.network, self.models / file, record)
            whole = engine.state.iteration == epoch * engine.state.epoch_length  # not cut short by max_iterations
            if whole and (epoch % self.checkpoint_every == 0 or last):
                self._save(engine)
        barrier()

    def _validate(self, engine: Any) -> list[str]:
        """Run the validator; returns the files of weights that this epoch is the best for."""
        with torch.no_grad():
            self.validator.run(engine.state.epoch)  # type: ignore[union-attr]
        state = self.validator.state  # type: ignore[union-attr]
        values = {k: float(v) for k, v in state.metrics.items() if isinstance(v, (int, float, torch.Tensor))}
        if self.main:
            self.history.add(engine.state.epoch, engine.state.iteration, values)
            for key, scalar in values.items():
                self.writer.add_scalar(key, scalar, engine.state.iteration)
        improved = []
        for file, name in {WEIGHTS: state.key_metric_name, **self.also_best}.items():
            value, known = values[name], self.best.get(file)
            if known is None or self.sign * (value - known[f"best_{name}"]) > 0:
                self.best[file] = {f"best_{name}": value, "at_epoch": float(engine.state.epoch)}
                improved.append(file)
        return improved

    def _draw(self, epoch: int, iteration: int) -> None:
        self.picture = self.logs / "montage" / f"epoch_{epoch:05d}.png"
        mosaic = self.montage().save(self.picture, f"epoch {epoch}")  # type: ignore[misc]
        self.writer.add_image("montage", mosaic, iteration, dataformats="HWC")

    def _save(self, engine: Any) -> None:
        run = {
            "epoch": engine.state.epoch,
            "epoch_length": engine.state.epoch_length,
            "settings": self.settings,
            "hyperparameters": self.hyperparameters,
            "subjects": self.subjects,
            "patients": self.patients,
            "fingerprints": self.fingerprints,
            "best": self.best,
            "latest": dict(getattr(engine, "latest", {})),
        }
        save_checkpoint(self.models / CHECKPOINT, engine.objects_to_save(), run)

    def _finish(self, engine: Any) -> None:
        self.history.draw(self.logs / "curves.png")
        self._close(engine)
        lines = [f"  checkpoint  {self.models / CHECKPOINT}"] if (self.models / CHECKPOINT).is_file() else []
        lines += [f"  weights     {self.models / file}" for file in dict.fromkeys([WEIGHTS, *self.best])]
        lines += [f"  montage     {self.picture}"] if self.picture else []
        lines += [f"  curves      {self.logs / 'curves.png'}", f"  log folder  {self.logs}"]
        lines += ["  " + ", ".join(f"{k} {v:.4g}" for k, v in best.items()) for best in self.best.values()]
        print("\nMade:", *lines, sep="\n", flush=True)
        if self.next_command:
            print(f"Next:\n  {self.next_command}", flush=True)

    def _close(self, engine: Any, error: BaseException | None = None) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.writer.close()
        self._unlock()
        if error is not None:
            raise error


def diverged(expected: str, engine: Any) -> UserError:
    """The error for a run whose loss or weights became NaN or infinite."""
    return UserError(
        expected,
        f"{scalars(engine.state.output)} at iteration {engine.state.iteration}",
        "training",
        "lower learning_rate, or set amp to none; the last checkpoint is sound",
    )


def scalars(output: Any) -> dict[str, float]:
    """The scalars of an iteration's output: a dictionary, or a list of them, of which the first speaks for all."""
    first = output[0] if isinstance(output, list) else output
    return {
        name: float(value)
        for name, value in first.items()
        if isinstance(value, float) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    }


def check_writable(folder: str | os.PathLike) -> None:
    """Make ``folder`` and try to write in it, before the work starts.

    Raises:
        UserError: it cannot be written.
    """
    probe = Path(folder) / f".tmp-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error


def command(run_id: str, bundle_root: str | os.PathLike, config: str, **options: Any) -> str:
    """The command line of a bundle's run, for the user to type next.

    Args:
        run_id: such as ``evaluate``.
        bundle_root: the bundle's folder.
        config: name of a file in its ``configs``.
        options: overrides; None, the bundle's own folder and anything in the cache folder are defaults, left out.
    """
    root, here = Path(bundle_root), Path.cwd()
    file = root / "configs" / config
    words = ["python", "-m", "monai.bundle", "run", run_id, "--config_file"]
    words.append(str(file.relative_to(here) if file.is_relative_to(here) else file))
    for name, value in options.items():
        if value is not None and str(value) != str(root) and not Path(str(value)).is_relative_to(cache_home()):
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _brief(value: Any) -> Any:
    return f"{len(value)} items" if isinstance(value, (list, tuple)) and len(value) > 6 else value
