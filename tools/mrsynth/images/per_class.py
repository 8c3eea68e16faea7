"""A generator with weights of its own for each class, from that class's best epoch (Haarburger 2019, section 4.1 and
table 2: the epoch of each class with the lowest Fréchet distance).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mrsynth.errors import UserError
from mrsynth.files import slug
from mrsynth.metrics import class_distance
from mrsynth.training import load_weights
from mrsynth.training.checkpoint import WEIGHTS


def class_files(classes: Sequence[str], weights: str | os.PathLike = WEIGHTS) -> list[Path]:
    """Where the weights of each class are: ``model_benign.pt`` beside ``model.pt``."""
    path = Path(weights)
    return [path.with_name(f"{path.stem}_{slug(name)}{path.suffix}") for name in classes]


def best_of_class(classes: Sequence[str]) -> dict[str, str]:
    """``also_best`` of :class:`mrsynth.metrics.RealismValidator`: the weights of each class by its own distance."""
    return dict(zip(map(str, class_files(classes)), map(class_distance, classes), strict=True))


class PerClassGenerator(nn.Module):
    """One generator per class; the one-hot class at the end of the latent vector `(B, latent)` chooses it.

    Args:
        generators: in the order of the classes, two or more.
    """

    def __init__(self, generators: Sequence[nn.Module]) -> None:
        super().__init__()
        self.generators = nn.ModuleList(generators)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        asked = latent[:, -len(self.generators) :].argmax(dim=1)
        order = [torch.nonzero(asked == number).flatten() for number in range(len(self.generators))]
        made = [generator(latent[rows]) for generator, rows in zip(self.generators, order, strict=True) if rows.numel()]
        return torch.cat(made)[torch.cat(order).argsort()]


def load_generator(
    network: nn.Module, weights: str | os.PathLike, classes: Sequence[str], per_class: bool | None, do: str
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained generator and the record of its weights.

    Args:
        network: one, without weights.
        weights: ``model.pt``, which is for all classes alike.
        classes: their names.
        per_class: take for each class the weights of its own best epoch, from the files beside ``weights``; None: where
            the training was validated, and so has them.
        do: the error's last part where there are no weights: what to type.

    Returns:
        The network, or a :class:`PerClassGenerator`, whose record has in ``classes`` that of each, by name.

    Raises:
        UserError: what :func:`mrsynth.training.load_weights` raises; or weights of different trainings.
    """
    common = load_weights(network, weights, do)
    if not (bool(common.get("metrics")) if per_class is None else per_class):
        return network, common
    files, members = class_files(classes, weights), [copy.deepcopy(network) for _ in classes]
    do = f"{do}; or take the weights that are best for all classes together (--per_class False)"
    records = [load_weights(member, file, do) for member, file in zip(members, files, strict=True)]
    for file, record in zip(files, records, strict=True):
        if any(record.get(key) != common.get(key) for key in ("settings", "subjects")):
            raise UserError(
                f"weights of the same training as {Path(weights).name}",
                "those of another, by their settings or subjects",
                file,
                "put the files of one training side by side, or train anew",
            )
    return PerClassGenerator(members).eval(), {**common, "classes": dict(zip(classes, records, strict=True))}


def record_of_class(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The record of the weights of the class ``name``, from a record that :func:`load_generator` returned."""
    return {**record, **record.get("classes", {}).get(name, {})}
