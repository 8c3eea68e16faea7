"""The tumor of patient A in the brain of patient B (Doncenco 2022, section 2.3, figure 4)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform

from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms.geometry import as_array, bounding_box, box_map, resample


class TumorTransplantd(ShowsParameters, RandomizableTransform, MapTransform):
    """Lay the tumor label of a donor on the brain of the recipient; what falls outside the brain is removed.

    The item brings its own pool: ``donors``, a sequence of items (with ``subject``, label and brain mask) to draw
    from, which must be training subjects, and optionally ``donor``, the index to try first. Both are taken out.
    What was drawn is recorded under ``transplant``: ``donor`` (its subject id), ``kept`` (share of the
    donor's tumor volume that found place, 0 to 1) and ``tries``.

    Args:
        label_key: the tumor label, `(1, X, Y, Z)`.
        mask_key: the brain mask.
        output: key of the fused label.
        align: map the donor's brain box onto the recipient's by an affine, instead of keeping millimeters.
        min_kept: a transplant that keeps less is redrawn with another donor; 0 takes the first.
        max_tries: draws before giving up.

    Raises:
        UserError: no ``donors``, no donor other than the recipient, or no transplant good enough within ``max_tries``.
    """

    def __init__(
        self,
        label_key: str = "label",
        mask_key: str = "brain",
        output: str = "transplanted",
        align: bool = True,
        min_kept: float = 0.8,
        max_tries: int = 20,
    ) -> None:
        RandomizableTransform.__init__(self, prob=1.0)
        MapTransform.__init__(self, label_key)
        self.label_key, self.mask_key, self.output = label_key, mask_key, output
        self.align, self.min_kept, self.max_tries = align, min_kept, max_tries

    def randomize(self, data: int) -> None:
        """Draw the order in which the ``data`` donors of the pool are tried."""
        self.order = [int(i) for i in self.R.permutation(data)]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        donors = item.pop("donors", None)
        if donors is None:
            raise UserError(
                "'donors': a sequence of items with subject, label and brain mask, to take the tumor from",
                f"an item with {', '.join(sorted(str(key) for key in item))}",
                item.get("subject", "the item given to TumorTransplantd"),
                'call it with {**item, "donors": dataset}, or draw the items by SeededDataset with a PairSampler, '
                "which adds them",
            )
        first = int(item.pop("donor", -1))
        subject = item.get("subject")
        self.randomize(len(donors))
        order = self.order if first < 0 else [first, *(i for i in self.order if i != first)]
        best, tries = 0.0, 0
        for index in order:
            donor = donors[index]
            if donor["subject"] == subject:
                continue
            if tries == self.max_tries:
                break
            tries += 1
            fused, kept = transplant(
                as_array(donor[self.label_key])[0],
                as_array(donor[self.label_key].affine),
                as_array(donor[self.mask_key])[0] > 0,
                as_array(item[self.mask_key])[0] > 0,
                as_array(item[self.mask_key].affine),
                self.align,
            )
            best = max(best, kept)
            if kept >= self.min_kept and fused.any():
                affine = item[self.mask_key].affine
                item[self.output] = MetaTensor(torch.from_numpy(fused[None]), affine=affine)
                item["transplant"] = {"donor": donor["subject"], "kept": kept, "tries": tries}
                return item
        if tries == 0:
            raise UserError(
                "at least two subjects: a recipient and a donor",
                "no donor but the recipient",
                subject,
                "add subjects",
            )
        raise UserError(
            f"a transplant that keeps {self.min_kept:.0%} of the donor's tumor",
            f"at best {best:.0%} in {tries} tries",
            f"recipient {subject}",
            "lower min_kept, or set align",
        )


def transplant(
    donor_label: np.ndarray,
    donor_affine: np.ndarray,
    donor_brain: np.ndarray,
    brain: np.ndarray,
    affine: np.ndarray,
    align: bool,
) -> tuple[np.ndarray, float]:
    """Donor's tumor on the recipient's grid, cut to its brain.

    Args:
        donor_label: `(X, Y, Z)` values 0, 1, 2, 4, on the donor's grid.
        donor_affine: its affine.
        donor_brain: the donor's brain mask.
        brain: the recipient's brain mask, on the recipient's grid.
        affine: its affine.
        align: see :class:`TumorTransplantd`.

    Returns:
        Label on the recipient's grid (uint8), and the share of the tumor's volume kept, 0 to 1.
    """
    world_map = brain_map(donor_affine, donor_brain, brain, affine) if align else None
    label = resample(donor_label.astype(np.uint8), donor_affine, brain.shape, affine, "nearest", 0, world_map)
    fused = np.where(brain, label, 0).astype(np.uint8)
    # volume of the whole tumor as it would lie in the recipient's space, inside its grid or not
    whole = (donor_label > 0).sum() * abs(np.linalg.det(donor_affine[:3, :3]))
    if world_map is not None:
        whole /= abs(np.linalg.det(world_map[:3, :3]))
    kept = (fused > 0).sum() * abs(np.linalg.det(affine[:3, :3])) / max(whole, 1e-6)
    return fused, float(min(kept, 1.0))


def brain_map(donor_affine: np.ndarray, donor_brain: np.ndarray, brain: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """World map (4x4, RAS mm) from the recipient's brain box to the donor's; arguments as in :func:`transplant`."""
    return box_map(affine, bounding_box(brain), donor_affine, bounding_box(donor_brain))
