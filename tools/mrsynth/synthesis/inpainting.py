"""The generator's tumor in the recipient's own MRI: where its voxels stand, and what the label then is."""

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
    """The generator's share of each voxel: 1 on the inpainted tumors, 0 beyond a soft edge.

    An item has ``donor_label`` and the recipient's ``own_label`` on the grid that is written. The transform adds
    ``generated``, float32 `(1, X, Y, Z)` in [0, 1], by which :class:`~mrsynth.synthesis.RestoreImaged` blends.

    Args:
        own_tumor: ``replace`` inpaints the recipient's own tumor too, with what the generator makes of its label
            there (healthy tissue); ``keep`` leaves its voxels as they are, and writes ``label``, the donor's tumor
            over the recipient's own.
        blend: softness of the edge in mm; see :func:`mrsynth.transforms.soften`.

    Raises:
        UserError: another value.
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
