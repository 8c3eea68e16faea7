"""The training montage: the same few subjects each epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

from mrsynth.conventions import SEQUENCES
from mrsynth.training import Montage, MontageRow, SeededDataset, tumor_center
from mrsynth.transforms.geometry import as_array


class SynthesisMontage:
    """Real MRI, the generator's image of the same label, and its image of a donor's tumor in the same brain.

    Args:
        network: the generator that is shown, in evaluation mode.
        recipients: preprocessed subjects (``SeededDataset``) of whom the first ``count`` are shown.
        donors: preprocessed training subjects.
        transform: from recipient and donor to the two conditions.
        device: of the network.
        inferer: calls the network.
        count: recipients shown.
        seed: of the donors.
    """

    look_for = (
        "the donor's tumor inside the recipient's brain, with its outline sharp and the folds as in the row 'real'"
    )

    def __init__(
        self,
        network: nn.Module,
        recipients: Sequence,
        donors: SeededDataset,
        transform: Compose,
        device: torch.device | str,
        inferer: Inferer,
        count: int = 2,
        seed: int = 0,
    ) -> None:
        self.network, self.device, self.inferer = network, device, inferer
        self.items = []
        for index in range(min(count, len(recipients))):
            item = dict(recipients[index])
            transform.set_random_state(seed=seed + index)
            self.items.append(transform({**item, "donors": donors.subjects}))

    @torch.no_grad()
    def __call__(self) -> Montage:
        """Four rows a subject."""
        self.network.eval()
        rows = []
        for item in self.items:
            own, fused = as_array(item["label"])[0], as_array(item["transplanted"])[0]
            spacing = tuple(float(s) for s in np.linalg.norm(as_array(item["image"].affine)[:3, :3], axis=0))
            own_image = self._synthesize(item["own_condition"])
            fused_image = self._synthesize(item["fused_condition"])
            rows += [
                MontageRow("real", as_array(item["image"]), None, spacing, tumor_center(own)),
                MontageRow("synthetic,\nown label", own_image, None, spacing, tumor_center(own)),
                MontageRow("synthetic,\ndonor's tumor", fused_image, None, spacing, tumor_center(fused)),
                MontageRow("its label", fused_image, fused, spacing, tumor_center(fused)),
            ]
        return Montage(rows, SEQUENCES)

    def _synthesize(self, condition: torch.Tensor) -> np.ndarray:
        image = torch.as_tensor(condition)[None].to(self.device)
        return self.inferer(image, self.network)[0].float().cpu().numpy()
