"""The generator's tumour in the recipient's own MRI: where its voxels stand, and what the label then is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from mrsynth.errors import UserError
from mrsynth.transforms import check_millimetres, soften
from mrsynth.transforms.geometry import as_array

OWN_TUMOUR = ("replace", "keep")


class InpaintingWeightd(Transform):
    """The share that the generator has in each voxel: 1 on the inpainted tumours, 0 from a soft edge on.

    The item brings ``laid`` (the donor's label) and ``own_label`` (the recipient's) on the grid that is written. It is
    given ``generated``, float32 `(1, X, Y, Z)` in [0, 1], which :class:`~mrsynth.synthesis.FinishImaged` follows.

    Args:
        own_tumour: ``replace`` inpaints the recipient's own tumour too, with what the generator makes of its label
            there (healthy tissue); ``keep`` leaves its voxels as they are, and writes ``label``, the donor's tumour
            over the recipient's own.
        blend: softness of the edge in mm; see :func:`mrsynth.transforms.soften`.

    Raises:
        UserError: another value.
    """

    def __init__(self, own_tumour: str = "replace", blend: float = 2.0) -> None:
        if own_tumour not in OWN_TUMOUR:
            raise UserError(f"own_tumour: one of {OWN_TUMOUR}", repr(own_tumour), "own_tumour", "choose one")
        check_millimetres(blend, "blend")
        self.own_tumour, self.blend = own_tumour, blend

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        laid, own = as_array(item["laid"])[0], as_array(item["own_label"])[0]
        affine = item["laid"].affine
        inpainted = (laid > 0) | (own > 0) if self.own_tumour == "replace" else laid > 0
        weight = soften(inpainted, as_array(affine), self.blend)
        weight[(own > 0) & ~inpainted] = 0
        item["generated"] = MetaTensor(torch.from_numpy(weight[None]), affine=affine)
        if self.own_tumour == "keep":
            label = np.where(laid > 0, laid, own).astype(np.uint8)
            item["label"] = MetaTensor(torch.from_numpy(label[None]), affine=affine)
        return item
