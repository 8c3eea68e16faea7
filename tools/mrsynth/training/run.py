"""A run: its folders, its record of settings and subjects, and the lock that keeps a second run out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from mrsynth.checks import whole_number
from mrsynth.errors import UserError
from mrsynth.files import unwritable
from mrsynth.home import cache_home
from mrsynth.manifest import fingerprints, patients_of, with_ancestors
from mrsynth.settings import Settings
from mrsynth.training.checkpoint import CHECKPOINT, WEIGHTS
from mrsynth.training.distributed import choose_device, rank
from mrsynth.training.sampling import seed_everything


class Run:
    """What the handlers of one training share.

    Args:
        settings: those recorded, and in ``run`` those of this run alone: ``output_dir``, ``resume``,
            ``validate_every``, ``montage_every``, ``checkpoint_every`` and, for the command at the end,
            ``bundle_root`` and ``datalist``.
        subjects: datalist items by section: ``training``, ``validation``, ``test``.
        initial: ``subjects``, ``patients`` and ``fingerprints`` of the weights that the training starts from.

    Raises:
        UserError: an interval that is negative or no whole number.
    """

    def __init__(
        self,
        settings: Settings,
        subjects: Mapping[str, Sequence[Mapping[str, Any]]],
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        initial = initial or {"subjects": [], "patients": {}, "fingerprints": {}}
        self.settings, self.options = dict(settings), dict(settings.run)
        self.bundle = Path(self.options.get("bundle_root", "")).name
        self.output_dir = Path(self.options["output_dir"])
        self.models, self.logs = self.output_dir / "models", self.output_dir / "logs"
        self.subjects = sorted({*with_ancestors(subjects["training"]), *initial["subjects"]})
        known = patients_of(subjects) | initial["patients"]
        self.patients = {i: patient for i, patient in sorted(known.items()) if i in self.subjects}
        self.fingerprints = dict(sorted((fingerprints(subjects["training"]) | initial["fingerprints"]).items()))
        self.test_subjects = list(subjects.get("test", ()))
        self.resume = bool(self.options.get("resume", False))
        intervals = {"validate_every": 0, "montage_every": 0, "checkpoint_every": 1}
        self.validate_every, self.montage_every, self.checkpoint_every = (
            whole_number(name, self.options.get(name, 1), least) for name, least in intervals.items()
        )
        self.hyperparameters: dict[str, Any] = {}  # read off the trainer before any state is restored
        self.best: dict[str, dict[str, float]] = {}  # by file of weights
        self.picture: Path | None = None
        self.main = rank() == 0

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint and the file beside the weights record of the run."""
        facts = ("bundle", "settings", "hyperparameters", "subjects", "patients", "fingerprints")
        return {name: getattr(self, name) for name in facts}

    def prepare_folders(self) -> None:
        """Make the folders, lock them, and remove what a killed process left half-written."""
        for folder in (self.models, self.logs):
            check_writable(folder)
        self._lock()
        for folder in (self.models, self.logs):
            for leftover in folder.glob(".tmp-*"):
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
                self.output_dir,
                "wait for that process to end, or pass another --output_dir",
            ) from error
        owner.write_text(str(os.getpid()), encoding="utf-8")

    def unlock(self) -> None:
        """Release the lock, so that another training may write here. A killed process releases it too."""
        if self.main:
            (self.models / "run.pid").unlink(missing_ok=True)
            self.lock.release()

    def summary(self, look_for: str = "") -> str:
        """What the run made, and what to type next; for people.

        Args:
            look_for: what to look for in the montage.
        """
        lines = ["", "Made:"]
        lines += [f"  checkpoint  {self.models / CHECKPOINT}"] if (self.models / CHECKPOINT).is_file() else []
        lines += [f"  weights     {self.models / file}" for file in dict.fromkeys([WEIGHTS, *self.best])]
        lines += [f"  curves      {self.logs / 'curves.png'}", f"  log folder  {self.logs}"]
        lines += ["  " + ", ".join(f"{k} {v:.4g}" for k, v in best.items()) for best in self.best.values()]
        if self.picture:
            lines += [f"Look at:\n  {self.picture}"] + ([f"  {look_for}"] if look_for else [])
        if root := self.options.get("bundle_root"):
            lines += [f"Next:\n  {next_command(root, self.options)}"]
        return "\n".join(lines)


def prepare(device: str, output_dir: str | os.PathLike, seed: int | None = None) -> None:
    """Before the work: check the device and the folder; for a training, also seed every generator of random numbers.

    Raises:
        UserError: no such device, or a folder that cannot be written.
    """
    choose_device(device)
    check_writable(output_dir)
    if seed is not None:
        seed_everything(seed)
        torch.backends.cudnn.benchmark = True


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


def weights_in(output_dir: str | os.PathLike) -> str:
    """Path of the weights that a training writes in ``output_dir``."""
    return str(Path(output_dir) / "models" / WEIGHTS)


def train_first(bundle_root: str | os.PathLike, output_dir: str | os.PathLike) -> str:
    """The last part of an error about missing weights: the command that trains them."""
    return "train first: " + command("training", bundle_root, "train.json", output_dir=output_dir)


def next_command(bundle_root: str | os.PathLike, options: Mapping[str, Any]) -> str:
    """The command to type after a training: ``synthesize`` for a generator, ``evaluate`` for a segmenter."""
    configs = Path(bundle_root) / "configs"
    generates = '"synthesize"' in (configs / "inference.json").read_text(encoding="utf-8")
    run_id, file = ("synthesize", "inference.json") if generates else ("evaluate", "evaluate.json")
    names = ["output_dir"]
    if "@datalist" in (configs / file).read_text(encoding="utf-8"):
        names.append("datalist")
    return command(run_id, bundle_root, file, **{name: options.get(name) for name in names})


def command(run_id: str, bundle_root: str | os.PathLike, config: str, **options: Any) -> str:
    """The command line of a bundle's run, for the user to type.

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
