"""The evaluation of a 2D generator: each class against real images of held-out subjects."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mrsynth.errors import UserError
from mrsynth.files import unwritable, write_csv, write_json
from mrsynth.home import cache_home
from mrsynth.images.per_class import record_of_class
from mrsynth.images.pictures import sheet
from mrsynth.images.reading import ImagesOf
from mrsynth.images.stacks import ImageDataset
from mrsynth.metrics import LEAST_IMAGES, ClassificationAccuracyScore, Features, mean_sd_text, realism, realism_table
from mrsynth.metrics.realism import ImageSequence

logger = logging.getLogger(__name__)

SHOWN = 10
"""Images of each class on the contact sheet."""


class ImageEvaluation:
    """Writes ``realism.json``, ``realism.csv`` and ``contact_sheet.png`` to ``<output_dir>/evaluation``.

    Args:
        make: gives so many images of a class from a number on; see :class:`~mrsynth.images.ImageSampler`.
        dataset: real images.
        classes: their names.
        channels: names of the channels.
        features: of the images.
        record: of the weights.
        settings: of data and network.
        output_dir: folder.
        training: real images of other subjects than those of ``dataset``; they train the classifier of ``accuracy``.
        count: images of each set in a draw, as far as there are as many real ones.
        draws: how often images are drawn; each draw has synthetic images of its own.
        seed: of all draws.
        accuracy: measures whether synthetic images show their class, where there are several; None skips it.
    """

    def __init__(
        self,
        make: Callable[[int, int, int], torch.Tensor],
        dataset: ImageDataset,
        classes: Sequence[str],
        channels: Sequence[str],
        features: Features,
        record: Mapping[str, Any],
        settings: Mapping[str, Any],
        output_dir: str | os.PathLike,
        training: ImageDataset | None = None,
        count: int = 1000,
        draws: int = 10,
        seed: int = 0,
        accuracy: ClassificationAccuracyScore | None = None,
    ) -> None:
        self.make, self.dataset, self.classes, self.channels = make, dataset, list(classes), list(channels)
        self.features, self.record, self.settings = features, record, dict(settings)
        self.training, self.accuracy = training, accuracy
        self.folder = Path(output_dir) / "evaluation"
        self.count, self.draws, self.seed = count, draws, seed

    def run(self) -> dict[str, Any]:
        """Measure each class, show the tables, write the files, and return the content of ``realism.json``.

        Raises:
            UserError: a class with too few real images.
        """
        parts = {name: self.dataset.of_class(number) for number, name in enumerate(self.classes)}
        for name, part in parts.items():
            if len(part) < 2 * LEAST_IMAGES:
                raise UserError(
                    f"at least {2 * LEAST_IMAGES} real images of class {name!r}",
                    str(len(part)),
                    "section",
                    "evaluate on a section with more subjects (--section), or with wider slices",
                )
        found, groups, rows, made = {}, [], [], []
        for number, (name, part) in enumerate(parts.items()):
            fake = self.synthetic(number, min(self.count, len(part)))
            wanted = max(SHOWN, self.accuracy.count if self.accuracy else 0)
            made.append(torch.stack([fake[i] for i in range(min(len(fake), wanted))]))
            options = {"draws": self.draws, "count": self.count, "seed": self.seed}
            real = ImagesOf(part)
            found[name] = realism(real, fake, self.features, progress=lambda x: tqdm(x, desc="draws"), **options)
            weights = record_of_class(self.record, name)
            found[name]["weights"] = {k: v for k, v in weights.items() if k in ("sha256", "version", "epoch")}
            logger.info(realism_table(found[name], f"\n{name}" if len(self.classes) > 1 else ""))
            shown = part.sample(SHOWN, self.seed)
            title = f", {name}" if len(self.classes) > 1 else ""
            kinds = len(self.channels)
            groups += [(f"real{title}", shown[:, :kinds]), (f"synthetic{title}", made[-1][: len(shown), :kinds])]
            rows += [
                {"class": name, "measure": measure, "of": pair, **value}
                for measure, by in found[name]["measures"].items()
                for pair, value in by.items()
            ]
        result: dict[str, Any] = {
            "settings": self.settings,
            "subjects": [stack.subject for stack in self.dataset.stacks],
            "classes": found,
        }
        if self.accuracy is not None and self.training is not None and len(self.classes) > 1:
            known, unseen = self._by_class(self.training), self._by_class(self.dataset)
            accuracy = self.accuracy(known, unseen, made, lambda x: tqdm(x, desc="classifier"))
            logger.info(classification_accuracy_table(accuracy, self.classes))
            result["classification_accuracy"] = accuracy
        write_json(self.folder / "realism.json", result)
        write_csv(self.folder / "realism.csv", rows)
        sheet(groups, self.channels).save(self.folder / "contact_sheet.png")
        logger.info(f"\nMade in {self.folder}:\n  realism.json, realism.csv, contact_sheet.png")
        return result

    def synthetic(self, number: int, count: int) -> ImageSequence:
        """``draws`` times ``count`` images of a class, in a scratch file below the cache folder: no draw shares any."""
        home = cache_home()
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=home) as scratch:
                for draw in range(self.draws):
                    images = self.make(number, count, draw * count)
                    scratch.write(images.numpy().tobytes())
                scratch.flush()
                return Scratch(np.memmap(scratch, np.float32, "r").reshape(-1, *images.shape[1:]))
        except OSError as error:
            raise unwritable(home, error) from error

    def _by_class(self, dataset: ImageDataset) -> list[torch.Tensor]:
        """Images of each class, as many as the classifier uses."""
        numbers = range(len(self.classes))
        return [dataset.sample(self.accuracy.count, self.seed, number) for number in numbers]  # type: ignore[union-attr]


class Scratch:
    """Images `(C, H, W)` from an array `(N, C, H, W)` on disk."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.images[index]))


def classification_accuracy_table(result: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The result of :class:`~mrsynth.metrics.ClassificationAccuracyScore` as a table for the screen."""
    lines = [
        "\nA classifier of real images of other subjects names the class: mean (sd) over its draws, shares of each row"
    ]
    for kind, words in (("real", "real images"), ("fake", "synthetic images")):
        lines.append(f"  {words}: {mean_sd_text(result[kind]['accuracy'])} right, chance {result['chance']:.3f}")
        lines.append(f"    {'':24}" + "".join(f"{name:>14}" for name in classes))
        for name, row in zip(classes, result[kind]["confusion"], strict=True):
            lines.append(f"    {name:24}" + "".join(f"{share:>14.2f}" for share in row))
    return "\n".join(lines)
