"""Pairs of donor and recipient from which synthetic subjects are made, at native resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset, MetaTensor

from mrsynth.errors import UserError
from mrsynth.transforms import coverage, transplant
from mrsynth.transforms.geometry import as_array

KEPT_IN_MEMORY = 4
"""Native subjects kept in memory; a BraTS subject takes 90 MB."""


def ordered_pairs(subjects: int, seed: int = 0) -> list[tuple[int, int]]:
    """All ordered pairs (recipient, donor) of different subjects, each once, in an order given by ``seed``.

    The first ``subjects`` pairs use each subject once as recipient and once as donor, and so do the next, so that even
    a few pairs use all brains and tumors equally.

    Args:
        subjects: number of subjects, at least 2.
        seed: seed of the order.

    Raises:
        UserError: fewer than two subjects.

    Examples:
        >>> from mrsynth.synthesis import ordered_pairs
        >>> ordered_pairs(3, seed=0)  # (recipient, donor): each pair once
        [(2, 0), (1, 2), (0, 1), (2, 1), (1, 0), (0, 2)]
    """
    if subjects < 2:
        raise UserError("at least two subjects: a recipient and a donor", str(subjects), "datalist", "add subjects")
    random = np.random.default_rng([seed, subjects])
    order, shifts = random.permutation(subjects), random.permutation(np.arange(1, subjects))
    return [(int(order[i]), int(order[(i + s) % subjects])) for s in shifts for i in range(subjects)]


class TransplantPairs(Dataset):
    """Dataset of labels to synthesize from; each item is the next pair that keeps enough of the tumor.

    Pairs are tried in the order of :func:`ordered_pairs`. The donor's label is transplanted to the recipient's native
    grid as in training (:func:`mrsynth.transforms.transplant`) and cut to the part that the training grid covers. A
    pair that keeps less than ``min_kept`` of the tumor is skipped. Subject ``n`` therefore does not depend on ``count``
    or on where an earlier run stopped, and no two subjects come from the same pair.

    Items hold the result of ``prepare`` for the recipient (with a ``label`` on the grid that is written, unless it is
    the donor's tumor alone), and

    - ``number``: number of the synthetic subject, from 0,
    - ``native_brain``, ``native_label``: uint8 `(1, ...)` on the recipient's grid,
    - ``recipient_file``: path of its first image file,
    - ``transplant``: ``recipient`` and ``donor`` (ids), ``kept`` (share of the tumor, 0 to 1), ``place`` (index in the
      order of pairs) and ``tries`` (pairs tried for this subject).

    Args:
        data: datalist items of the recipients and donors.
        count: number of subjects.
        load: loads native ``image``, ``label`` and ``brain`` of a datalist item.
        prepare: makes the network's input ``image`` and, on its grid, ``brain``, ``transplanted`` and ``native``, from
            the recipient's loaded item with ``transplanted`` and the ``donor``'s item.
        seed: seed of the order.
        align: map the bounding box of the donor's brain to that of the recipient's.
        min_kept: least share of the tumor that must be kept.
        done: place of each subject that exists already, by number; these are left out.

    Raises:
        UserError: there are fewer pairs, or fewer that keep enough of the tumor, than ``count``.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        count: int,
        load: Callable,
        prepare: Callable,
        seed: int = 0,
        align: bool = True,
        min_kept: float = 0.8,
        done: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(list(data), None)
        self.order = ordered_pairs(len(data), seed)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(self.order):
            raise UserError(
                f"a number of subjects from 1 to {len(self.order)}, the ordered pairs of {len(data)} subjects",
                repr(count),
                "count",
                f"pass --count {len(self.order)} or less, or add subjects to the datalist",
            )
        self.load, self.prepare = load, prepare
        self.align, self.min_kept = align, min_kept
        self.places = dict(done or {})
        self.numbers = [number for number in range(count) if number not in self.places]
        self.recent: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict:  # type: ignore[override]
        wanted = self.numbers[index]
        for number in range(wanted):  # a subject's pair comes after all those before it
            if number not in self.places:
                self.find(number)
        return self.find(wanted)

    def find(self, number: int) -> dict:
        """Item of subject ``number``; the places of earlier subjects must be known."""
        first = self.places[number - 1] + 1 if number else 0
        for place in range(self.places.get(number, first), len(self.order)):
            item = self.fuse(place)
            if item is not None:
                self.places[number] = place
                item["transplant"].update(place=place, tries=place - first + 1)
                return {**item, "number": number}
        raise UserError(
            f"pairs that keep {self.min_kept:.0%} of the donor's tumor, one a subject",
            f"only {number} among the {len(self.order)} pairs of {len(self.data)} subjects",
            "min_kept",
            f"pass --count {number}, a lower --min_kept, --align true, or more subjects",
        )

    def fuse(self, place: int) -> dict | None:
        """The pair at ``place``, prepared; None where it keeps too little."""
        recipient, donor = (self.native(index) for index in self.order[place])
        brain, affine = recipient["brain"], as_array(recipient["brain"].affine)
        native = torch.as_tensor(affine)
        label, kept = transplant(
            as_array(donor["label"])[0],
            as_array(donor["label"].affine),
            as_array(donor["brain"])[0] > 0,
            as_array(brain)[0] > 0,
            affine,
            self.align,
        )
        if kept < self.min_kept or not label.any():
            return None
        fused = MetaTensor(torch.from_numpy(label[None]), affine=native)
        item = self.prepare({**recipient, "transplanted": fused, "donor": donor})
        grid = item["transplanted"]
        seen = np.where(coverage(grid.shape[1:], as_array(grid.affine), label.shape, affine), label, 0)
        kept *= float(np.count_nonzero(seen) / np.count_nonzero(label))
        if kept < self.min_kept or not seen.any() or not bool((grid > 0).any()):
            return None
        item["native_brain"] = MetaTensor(as_array(brain).copy(), affine=native)
        item["native_label"] = MetaTensor(torch.from_numpy(seen[None]), affine=native)
        item["recipient_file"] = recipient["image"].meta["filename_or_obj"]
        item["transplant"] = {"recipient": recipient["subject"], "donor": donor["subject"], "kept": kept}
        return item

    def native(self, index: int) -> dict:
        """Subject ``index`` on its native grid; the last few are kept."""
        if index not in self.recent:
            while len(self.recent) >= KEPT_IN_MEMORY:
                self.recent.pop(next(iter(self.recent)))
            self.recent[index] = self.load(self.data[index])
        return self.recent[index]
