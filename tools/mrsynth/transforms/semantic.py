"""The semantic label that conditions a generator (Doncenco 2022, section 2.3; tissue classes after Shin 2018).

One integer map per subject. Inside the brain the value is 1 plus the tumor label, which is the thesis's sum of
brain mask and ground truth: 1 brain, 2 core, 3 edema, 5 enhancing. Where the anatomy is known by tissue, healthy
brain is 6 CSF, 7 gray matter or 8 white matter instead of 1. Background is 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage
from sklearn.cluster import KMeans

from mrsynth.conventions import CORE, EDEMA, ENHANCING, LABELS, SEQUENCES
from mrsynth.errors import UserError
from mrsynth.representation import ShowsParameters
from mrsynth.transforms.geometry import as_array

BRAIN = 1
CSF, GRAY, WHITE = 6, 7, 8
TUMOR = tuple(1 + label for label in (CORE, EDEMA, ENHANCING))

CONDITIONS: dict[str, tuple[int, ...]] = {
    "mask": (0, BRAIN, *TUMOR),
    "tissue": (0, CSF, GRAY, WHITE, *TUMOR),
}
"""Values that occur in the semantic label of each kind of condition, in the order of the one-hot channels."""


IS_LABEL = np.isin(np.arange(256), LABELS)


class TissueClassesd(ShowsParameters, MapTransform):
    """Classes of healthy tissue from t1, t2 and flair inside the brain, without another tool (Shin 2018's idea).

    K-means with three centers, begun where radiology puts them: CSF dark on t1 and flair and bright on t2, gray
    matter bright on flair, white matter bright on t1. Each sequence's slow drift (the bias field) is taken out first,
    since the contrast of gray and white matter is often weaker. Inside the tumor the tissue is not visible: it is
    taken from the mirror image of the other hemisphere where that is healthy brain, else from the nearest healthy
    voxel. Deterministic.

    Args:
        key: image, `(4, X, Y, Z)` in the project's order of sequences.
        label_key: tumor label.
        mask_key: brain mask.
        output: key of the classes, uint8 `(1, X, Y, Z)`: 0 outside, 6 CSF, 7 gray, 8 white matter.
        samples: voxels that the centers are fitted to.
        drift: standard deviation of the Gaussian that estimates the drift, as a share of the grid's mean side.
    """

    STARTS = ((-1.5, 1.5, -1.0), (-0.3, 0.2, 0.5), (0.5, -0.4, -0.3))

    def __init__(
        self,
        key: str = "image",
        label_key: str = "label",
        mask_key: str = "brain",
        output: str = "tissue",
        samples: int = 20000,
        drift: float = 0.12,
    ) -> None:
        super().__init__(key)
        self.key, self.label_key, self.mask_key, self.output = key, label_key, mask_key, output
        self.samples, self.drift = samples, drift

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        brain, tumor = as_array(item[self.mask_key])[0] > 0, as_array(item[self.label_key])[0] > 0
        image = as_array(item[self.key])
        t1, t2, flair = (image[SEQUENCES.index(name)].astype(np.float32) for name in ("t1", "t2", "flair"))
        healthy = brain & ~tumor
        # ventricles would count as drift
        solid = healthy & (t2 - t1 < np.quantile((t2 - t1)[healthy], 0.85))
        values = np.stack([_without_drift(s, solid, self.drift)[healthy] for s in (t1, t2, flair)], axis=1)
        values = _standardized(values).clip(-2, 2)
        some = values[np.linspace(0, len(values) - 1, min(self.samples, len(values))).astype(int)]
        means = KMeans(3, init=np.asarray(self.STARTS), n_init=1, random_state=0).fit(some)
        classes = np.zeros(brain.shape, dtype=np.uint8)
        classes[healthy] = np.asarray([CSF, GRAY, WHITE], dtype=np.uint8)[means.predict(values)]
        filled = torch.from_numpy(fill_tumor(classes, brain, tumor)[None])
        item[self.output] = MetaTensor(filled, affine=item[self.mask_key].affine)
        return item


def _standardized(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0, dtype=np.float64)) / values.std(axis=0, dtype=np.float64).clip(1e-6)


def _without_drift(volume: np.ndarray, mask: np.ndarray, drift: float) -> np.ndarray:
    """``volume`` less its local mean inside ``mask``."""
    sigma = drift * np.mean(volume.shape)
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.5)
    mean = ndimage.gaussian_filter(np.where(mask, volume, 0), sigma, truncate=2.5)
    return volume - mean / weight.clip(1e-3)


def fill_tumor(classes: np.ndarray, brain: np.ndarray, tumor: np.ndarray) -> np.ndarray:
    """Guess the tissue under a tumor: the mirrored hemisphere where healthy, else the nearest healthy voxel.

    Args:
        classes: `(X, Y, Z)` tissue values, 0 where unknown.
        brain: bool mask.
        tumor: bool mask.
    """
    inside = np.flatnonzero(brain.any(axis=(1, 2)))
    mirror = np.clip(inside[0] + inside[-1] - np.arange(brain.shape[0]), 0, brain.shape[0] - 1)
    unknown = brain & (classes == 0)
    filled = np.where(unknown, classes[mirror] * (brain & ~tumor)[mirror], classes)
    left = brain & (filled == 0)
    if left.any() and (filled > 0).any():
        nearest = ndimage.distance_transform_edt(filled == 0, return_distances=False, return_indices=True)
        filled = np.where(left, filled[tuple(nearest)], filled)
    return filled.astype(np.uint8)


class SemanticLabeld(ShowsParameters, MapTransform):
    """Semantic label: the tumor label over the tissue of a brain.

    Args:
        keys: tumor labels, `(1, X, Y, Z)`, values 0, 1, 2, 4.
        outputs: where each semantic label is written, uint8 `(1, X, Y, Z)`.
        condition: ``mask`` (brain and tumor) or ``tissue`` (three tissues and tumor).
        mask_key: brain mask.
        tissue_key: tissue classes, for ``tissue``.

    Raises:
        UserError: a label has another value.
    """

    def __init__(
        self,
        keys: KeysCollection,
        outputs: Sequence[str],
        condition: str = "tissue",
        mask_key: str = "brain",
        tissue_key: str = "tissue",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        condition_values(condition)
        self.outputs, self.condition, self.mask_key, self.tissue_key = (
            tuple(outputs),
            condition,
            mask_key,
            tissue_key,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        base = as_array(item[self.tissue_key if self.condition == "tissue" else self.mask_key])
        brain = as_array(item[self.mask_key])
        for key, output in self.key_iterator(item, self.outputs):
            label = as_array(item[key]).astype(np.uint8, copy=False)
            if not IS_LABEL[label].all():
                found = np.unique(label).tolist()
                raise UserError(f"label values {LABELS}", str(found), item.get("subject", key), "map the label first")
            semantic = np.where((label > 0) & (brain > 0), label + np.uint8(1), base)
            item[output] = MetaTensor(torch.from_numpy(semantic), affine=item[key].affine)
        return item


class EncodeSemanticd(ShowsParameters, MapTransform):
    """Semantic label as the channels a network takes: one-hot, or one channel of the values themselves.

    Args:
        keys: semantic labels, `(1, X, Y, Z)`.
        condition: ``mask`` or ``tissue``: which values occur.
        one_hot: `(K, X, Y, Z)` in the order of :data:`CONDITIONS`; else one channel of the values, times ``scale``.
        scale: 1 keeps {0, 1, 2, 3, 5}, the thesis's sum.

    Raises:
        UserError: a value that the condition does not hold.
    """

    def __init__(
        self,
        keys: KeysCollection,
        condition: str = "tissue",
        one_hot: bool = True,
        scale: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values, self.one_hot, self.scale = condition_values(condition), one_hot, scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        for key in self.key_iterator(item):
            semantic = item[key]
            encoded = encode(torch.as_tensor(semantic), self.values, self.one_hot, self.scale)
            item[key] = MetaTensor(encoded, meta=dict(semantic.meta)) if isinstance(semantic, MetaTensor) else encoded
        return item


def encode(semantic: torch.Tensor, values: Sequence[int], one_hot: bool, scale: float = 1.0) -> torch.Tensor:
    """`(1, X, Y, Z)` semantic label as float32 channels; see :class:`EncodeSemanticd`.

    Examples:
        >>> import torch
        >>> from mrsynth.transforms import encode
        >>> encode(torch.tensor([[[[0, 1, 1]]]]), values=(0, 1), one_hot=True).squeeze().tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    semantic = semantic.as_tensor() if isinstance(semantic, MetaTensor) else semantic
    codes = torch.as_tensor(values, dtype=torch.int16).view(-1, 1, 1, 1)
    hits = semantic.to(torch.int16) == codes
    if not bool(hits.any(dim=0).all()):
        raise UserError(
            f"semantic label values {tuple(values)}",
            str(torch.unique(semantic).tolist()),
            "the network's input",
            "use the condition (mask or tissue) that the label was made for",
        )
    return hits.float() if one_hot else semantic.float() * scale


def condition_values(condition: str) -> tuple[int, ...]:
    """Values of a kind of condition, checked.

    Examples:
        >>> from mrsynth.transforms import condition_values
        >>> condition_values("tissue")
        (0, 6, 7, 8, 2, 3, 5)
    """
    if condition not in CONDITIONS:
        raise UserError(
            f"condition: one of {sorted(CONDITIONS)}", repr(condition), "condition", "pass --condition tissue"
        )
    return CONDITIONS[condition]
