"""How well a segmentation agrees with its reference: Dice, 95% Hausdorff distance, sensitivity, precision, per region.

Empty regions: if both are empty the segmentation is correct (Dice, sensitivity and precision
1, distance 0 mm); one of them empty, it is as wrong as it can be (0, 0 and 0; the distance is the diagonal of the
volume, 373 mm for BraTS, as its own evaluation counts). The volume is the one that is scored: on the grid ``training``
it is what was cut out, so with ``crop: brain`` the diagonal is that of each subject's own box, and differs from one to
the next.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric, compute_dice, compute_hausdorff_distance

from mrsynth.conventions import LABELS, REGIONS
from mrsynth.representation import ShowsParameters

MEASURES = ("dice", "hd95", "sensitivity", "precision")
"""The measures of each region."""


def region_scores(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Compare two tumor labels on one grid.

    Args:
        prediction: `(X, Y, Z)`, values 0, 1, 2, 4.
        reference: likewise.
        spacing: mm a voxel, X, Y, Z.

    Returns:
        For each of :data:`~mrsynth.conventions.REGIONS` the :data:`MEASURES`: Dice, sensitivity and precision from 0
        to 1, ``hd95`` in mm.

    Examples:
        >>> import numpy as np
        >>> from mrsynth.metrics import region_scores
        >>> label = np.zeros((8, 8, 8), np.uint8)
        >>> label[2:6, 2:6, 2:6] = 4
        >>> region_scores(label, label, spacing=(1, 1, 1))["ET"]["dice"]
        1.0
    """
    mm = [float(s) for s in spacing]
    diagonal = float(np.linalg.norm(np.multiply(reference.shape, mm)))
    scores = {}
    for region, values in REGIONS.items():
        found, true = np.isin(prediction, values), np.isin(reference, values)
        hit, n_found, n_true = (int(np.count_nonzero(mask)) for mask in (found & true, found, true))
        if n_found and n_true:
            one, other = (torch.from_numpy(mask)[None, None] for mask in (found, true))
            with warnings.catch_warnings():  # it warns of an argument that it gives to itself
                warnings.simplefilter("ignore", FutureWarning)
                distance = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=mm)
            scores[region] = {
                "dice": 2 * hit / (n_found + n_true),
                "hd95": float(distance),
                "sensitivity": hit / n_true,
                "precision": hit / n_found,
            }
        else:
            right = float(n_found == n_true)
            scores[region] = {
                "dice": right,
                "hd95": 0.0 if right else diagonal,
                "sensitivity": right,
                "precision": right,
            }
    return scores


def to_label(classes: torch.Tensor) -> torch.Tensor:
    """Label values 0, 1, 2, 4 of class indices 0 to 3, uint8."""
    return torch.tensor(LABELS, dtype=torch.uint8, device=classes.device)[classes.long()]


class RegionDice(ShowsParameters, CumulativeIterationMetric):
    """Dice of each region, for MONAI's evaluators: logits `(4, X, Y, Z)` against class indices `(1, X, Y, Z)`.

    The aggregate is the mean over subjects and regions, by which the best epoch is chosen.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import RegionDice
        >>> logits = torch.zeros(1, 4, 4, 4, 4)
        >>> logits[:, 3] = 1  # enhancing everywhere
        >>> metric = RegionDice()
        >>> metric(logits, torch.full((1, 1, 4, 4, 4), 3))  # WT, TC, ET
        tensor([[1., 1., 1.]])
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        if y is None:
            raise ValueError("RegionDice compares with a truth: y is None")
        found, true = (_regions(to_label(classes)) for classes in (torch.as_tensor(y_pred).argmax(dim=1), y[:, 0]))
        return compute_dice(found, true, include_background=True, ignore_empty=False)

    def aggregate(self) -> torch.Tensor:  # type: ignore[override]
        """Mean over all subjects seen since the last reset, and over the regions."""
        return self.get_buffer().mean()  # type: ignore[union-attr]


def _regions(labels: torch.Tensor) -> torch.Tensor:
    """Each region as a channel, bool `(B, 3, X, Y, Z)`, of labels `(B, X, Y, Z)`."""
    return torch.stack([torch.isin(labels, labels.new_tensor(values)) for values in REGIONS.values()], dim=1)
