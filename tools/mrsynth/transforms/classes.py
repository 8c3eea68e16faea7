"""Label values 0, 1, 2, 4 as the class indices 0 to 3 of a segmenter's softmax."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from mrsynth.conventions import LABELS
from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms.geometry import as_array

INDEX = np.full(256, 255, dtype=np.uint8)
INDEX[list(LABELS)] = np.arange(len(LABELS))


class LabelClassesd(ShowsParameters, MapTransform):
    """Replace label values by class indices: 0 background, 1 core, 2 edema, 3 enhancing.

    Args:
        keys: labels, `(1, X, Y, Z)`, values 0, 1, 2, 4; become uint8.

    Raises:
        UserError: another value.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from mrsynth.transforms import LabelClassesd
        >>> LabelClassesd()({"label": MetaTensor(torch.tensor([[[[0, 1, 2, 4]]]]))})["label"].flatten().tolist()
        [0, 1, 2, 3]
    """

    def __init__(self, keys: KeysCollection = "label", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        for key in self.key_iterator(item):
            label = as_array(item[key])
            values = label.astype(np.uint8, copy=False)
            classes = INDEX[values]
            if (classes == 255).any() or (values is not label and (values != label).any()):
                found = np.unique(label).tolist()
                raise UserError(f"label values {LABELS}", str(found), item.get("subject", key), "map the label first")
            item[key] = MetaTensor(torch.from_numpy(classes), meta=dict(item[key].meta))
        return item
