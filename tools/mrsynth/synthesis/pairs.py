"""Whose tumor in whose brain: the pairs that synthetic subjects are made of, at native resolution."""

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
"""Native subjects held at a time; a BraTS subject takes 90 MB."""


def ordered_pairs(subjects: int, seed: int = 0) -> list[tuple[int, int]]:
    """All ordered pairs (recipient, donor) of different subjects, each once, in an order that follows from ``seed``.

    Every run of ``subjects`` pairs from the start takes each subject once as recipient and once as donor, so that
    few pairs use all brains and all tumors alike.

    Args:
        subjects: number of subjects, at least 2.
        seed: of the order.

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
    """Labels to synthesize subjects from: item by item the next pair whose tumor finds room.

    Pairs are tried in the order of :func:`ordered_pairs`. The donor's label is transplanted onto the recipient's native
    grid as in training (:func:`mrsynth.transforms.transplant`) and cut to what the training grid covers. A pair that
    keeps less than ``min_kept`` of the tumor is skipped. Subject ``n`` is therefore the same whatever ``count`` is and
    wherever an earlier run stopped, and no two subjects come from the same pair.

    Items hold what ``prepare`` makes of the recipient (with a ``label`` on the grid that is written, where that is not
    the donor's tumor alone), and

    - ``number``: of the synthetic subject, from 0,
    - ``native_brain``, ``native_label``: uint8 `(1, ...)` on the recipient's grid,
    - ``recipient_file``: path of its first image file,
    - ``transplant``: ``recipient`` and ``donor`` (ids), ``kept`` (share of the tumor, 0 to 1), ``place`` (in the
      order of pairs) and ``tries`` (pairs looked at for this subject).

    Args:
        data: datalist items of the recipients and donors.
        count: subjects wanted.
        load: from a datalist item to native ``image``, ``label`` and ``brain``.
        prepare: from these of the recipient, ``transplanted`` and the ``donor``'s item to the network's input
            ``image`` and, on its grid, ``brain``, ``transplanted`` and ``native``.
        seed: of the order.
        align: map the donor's brain box onto the recipient's.
        min_kept: least share of the tumor that finds place.
        done: place of each subject that is already there, by number; these are left out.

    Raises:
        UserError: more subjects asked for than there are pairs (that keep enough).
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
                "ask for fewer, or give more subjects",
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
        """Item of subject ``number``; those before it must have their places."""
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
            f"ask for --count {number}, lower min_kept, set align, or give more subjects",
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
