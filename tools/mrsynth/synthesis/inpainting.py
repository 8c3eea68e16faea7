"""Inpainting the generated tumor into the recipient's own MRI: the weight of each voxel, and the label."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms import check_millimeters, soften
from mrsynth.transforms.geometry import as_array

OWN_TUMOR = ("replace", "keep")
"""What happens to the recipient's own tumor: healthy tissue replaces it, or it stays."""


class InpaintingWeightd(ShowsParameters, Transform):
    """The weight of the generated image in each voxel: 1 on inpainted tumors, falling to 0 over a soft edge.

    The item must have ``donor_label`` and the recipient's ``own_label`` on the grid that is written. It gets
    ``generated``, float32 `(1, X, Y, Z)` in [0, 1], which :class:`~mrsynth.synthesis.RestoreImaged` uses.

    Args:
        own_tumor: ``replace`` also inpaints the recipient's own tumor, with the healthy tissue that the generator makes
            there; ``keep`` leaves its voxels unchanged and writes ``label``, the donor's tumor over the own one.
        blend: softness of the edge in mm; see :func:`mrsynth.transforms.soften`.

    Raises:
        UserError: an unknown value of ``own_tumor``, or a negative ``blend``.
    """

    def __init__(self, own_tumor: str = "replace", blend: float = 2.0) -> None:
        if own_tumor not in OWN_TUMOR:
            raise UserError(f"own_tumor: one of {OWN_TUMOR}", repr(own_tumor), "own_tumor", "pass --own_tumor replace")
        check_millimeters(blend, "blend")
        self.own_tumor, self.blend = own_tumor, blend

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        donor, own = as_array(item["donor_label"])[0], as_array(item["own_label"])[0]
        affine = item["donor_label"].affine
        inpainted = (donor > 0) | (own > 0) if self.own_tumor == "replace" else donor > 0
        weight = soften(inpainted, as_array(affine), self.blend)
        weight[(own > 0) & ~inpainted] = 0
        item["generated"] = MetaTensor(torch.from_numpy(weight[None]), affine=affine)
        if self.own_tumor == "keep":
            label = np.where(donor > 0, donor, own).astype(np.uint8)
            item["label"] = MetaTensor(torch.from_numpy(label[None]), affine=affine)
        return item
