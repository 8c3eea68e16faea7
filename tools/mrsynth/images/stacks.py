"""Images by subject, and the dataset that 2D games are trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from monai.data import Dataset
from tqdm import tqdm

from mrsynth.errors import UserError
from mrsynth.metrics import LEAST_IMAGES
from mrsynth.training import Draw, derived_seed

CONDITIONS = ("none", "tumor", "sequence", "both")
"""What a slice's class says: nothing, whether it shows tumor, its sequence, or both."""

WATCHED = 5
"""Subjects whose images say which epoch is the best; those of one alone make it a lottery."""


class ImageArray(Protocol):
    """An array of images: indexed by a number `(C, H, W)`, or by a list of numbers `(N, C, H, W)`."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass
class SubjectImages:
    """The images of one subject.

    Attributes:
        subject: its id.
        images: in [-1, 1]: a tensor `(N, C, H, W)`, or rows that are read when asked for.
        classes: class of each.
        names: of each, for people: plane, number, sequence.
    """

    subject: str
    images: ImageArray
    classes: list[int]
    names: list[str]


def slice_stacks(
    subjects: Sequence[Mapping[str, Any]] | Dataset,
    sequences: Sequence[str],
    pooled: bool = True,
    condition: str = "none",
) -> list[SubjectImages]:
    """The images that :class:`~mrsynth.images.CutSlicesd` has cut, by subject.

    Args:
        subjects: preprocessed items, or none; read once, in order, with a progress bar.
        sequences: names of the slices' channels.
        pooled: each sequence is an image of its own (Han 2018's "Concat"); else an image has all as channels.
        condition: one of :data:`CONDITIONS`; class numbers as :func:`slice_classes` names them.

    Raises:
        UserError: an unknown condition, one by sequence of images that hold all, or a class without an image.
    """
    names = slice_classes(sequences, condition)
    if condition in ("sequence", "both") and not pooled:
        raise UserError("pooled: true, for a class by sequence", "false", "condition", "pool, or choose another")
    kinds = len(sequences) if pooled else 1
    stacks = []
    for index in tqdm(range(len(subjects)), desc="slices", unit="subject", leave=False):
        item = subjects[index]
        cut = item["slices"].as_tensor()
        images = cut.reshape(-1, 1, *cut.shape[2:]) if pooled else cut
        classes, titles = [], []
        for number, tumor in zip(item["numbers"], item["tumor"], strict=True):
            for kind in range(kinds):
                by_tumor = int(tumor) if condition in ("tumor", "both") else 0
                by_sequence = kind if condition in ("sequence", "both") else 0
                classes.append(by_sequence * (2 if condition == "both" else 1) + by_tumor)
                titles.append(f"{number:03d} {sequences[kind]}" if pooled else f"{number:03d}")
        stacks.append(SubjectImages(item["subject"], images, classes, titles))
    counts = np.bincount([c for stack in stacks for c in stack.classes], minlength=len(names))
    if stacks and (counts == 0).any():
        lacking = [name for name, count in zip(names, counts, strict=True) if count == 0]
        raise UserError("an image of each class", f"none of {lacking}", "condition, keep", "choose other slices")
    return stacks


def validation_stacks(
    validation: Sequence[SubjectImages], training: Sequence[SubjectImages], classes: int = 1
) -> list[SubjectImages]:
    """The real images that synthetic ones are compared with during training: the validation part, together with the
    training part if the former has fewer than :data:`WATCHED` subjects or too few images of a class. Test subjects are
    never used.

    Args:
        validation, training: of these parts.
        classes: how many there are.
    """
    counts = np.bincount([c for stack in validation for c in stack.classes], minlength=classes)
    enough = len(validation) >= WATCHED and counts.min() >= LEAST_IMAGES
    return [*validation, *([] if enough else training)]


def slice_classes(sequences: Sequence[str], condition: str) -> list[str]:
    """Names of the classes, by number.

    Raises:
        UserError: an unknown condition.

    Examples:
        >>> from mrsynth.images import slice_classes
        >>> slice_classes(["t1", "flair"], "both")
        ['t1, no tumor', 't1, tumor', 'flair, no tumor', 'flair, tumor']
    """
    if condition not in CONDITIONS:
        raise UserError(f"condition: one of {CONDITIONS}", repr(condition), "condition", "pass --condition none")
    tumor = ["no tumor", "tumor"]
    both = [f"{sequence}, {kind}" for sequence in sequences for kind in tumor]
    return {"none": ["image"], "tumor": tumor, "sequence": list(sequences), "both": both}[condition]


class ImageDataset(Dataset):
    """All images of ``stacks``, one an item: ``image`` float32 `(C, H, W)`, ``class``, ``subject``, ``name``.

    Index it by a :class:`~mrsynth.training.Draw` (or an integer: epoch 0).

    Args:
        stacks: images by subject.
        flip: mirror half of the images left to right, each draw by (seed, epoch, item, turn).
        seed: of the mirroring.
        repeat: a single channel is given so often (Cepa 2022's three channels).

    Raises:
        UserError: no images, or images of several sizes.

    Examples:
        >>> import torch
        >>> from mrsynth.images import ImageDataset, SubjectImages
        >>> subject = SubjectImages("A", torch.zeros(2, 1, 8, 8), classes=[0, 1], names=["003", "004"])
        >>> dataset = ImageDataset([subject])
        >>> len(dataset), dataset[1]["name"]
        (2, '004')
    """

    def __init__(self, stacks: Sequence[SubjectImages], flip: bool = False, seed: int = 0, repeat: int = 1) -> None:
        sizes = {tuple(stack.images.shape[1:]) for stack in stacks if len(stack.images)}
        if len(sizes) > 1:
            raise UserError("images of one size", str(sorted(sizes)), "images", "cut them to one size")
        self.stacks, self.flip, self.seed, self.repeat = list(stacks), flip, seed, repeat
        self.where = [(s, row) for s, stack in enumerate(self.stacks) for row in range(len(stack.images))]
        self.classes = [c for stack in self.stacks for c in stack.classes]

    def __len__(self) -> int:
        return len(self.where)

    def __getitem__(self, draw: Draw | int) -> dict:  # type: ignore[override]
        draw = draw if isinstance(draw, Draw) else Draw(0, int(draw))
        number, row = self.where[draw.number]
        stack = self.stacks[number]
        image = stack.images[row].to(torch.float32)
        if self.repeat > 1:
            image = image.repeat(self.repeat, 1, 1)
        if self.flip and derived_seed(self.seed, draw.epoch, draw.number, draw.turn) % 2:
            image = image.flip(-1)
        return {"image": image, "class": stack.classes[row], "subject": stack.subject, "name": stack.names[row]}

    def of_class(self, number: int) -> ImageDataset:
        """The images of one class, not mirrored."""
        parts = []
        for stack in self.stacks:
            rows = [row for row, kind in enumerate(stack.classes) if kind == number]
            names = [stack.names[row] for row in rows]
            parts.append(SubjectImages(stack.subject, stack.images[rows], [number] * len(rows), names))
        return ImageDataset(parts, repeat=self.repeat)

    def sample(self, count: int | None, seed: int, of_class: int | None = None) -> torch.Tensor:
        """Up to ``count`` different images in random order, `(n, C, H, W)`; all where ``count`` is None."""
        numbers = [i for i, c in enumerate(self.classes) if of_class is None or c == of_class]
        chosen = np.random.default_rng(seed).permutation(numbers)[:count]
        return torch.stack([self[int(i)]["image"] for i in chosen]) if len(chosen) else torch.empty(0)
