"""The network on a whole volume: windows that overlap, and test-time flips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations
from typing import Any

import torch
from monai.inferers import Inferer, SlidingWindowInferer

from mrsynth.segmentation import background_outside
from mrsynth.training import PrecisionInferer


class Flipped(Inferer):
    """Mean of the class probabilities over all mirror images, as logits.

    Args:
        inferer: called on each mirror image.
        axes: spatial axes, 0 to 2, that are mirrored, alone and together; none makes a single call.
    """

    def __init__(self, inferer: Inferer, axes: Sequence[int] = ()) -> None:
        super().__init__()
        self.inferer = inferer
        self.flips = list(chain.from_iterable(combinations([a + 2 for a in axes], n) for n in range(len(axes) + 1)))

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(self.flips) == 1:
            return self.inferer(inputs, network, *args, **kwargs)
        total: torch.Tensor | float = 0.0
        for axes in self.flips:
            logits = self.inferer(torch.flip(inputs, axes), network, *args, **kwargs)
            total = total + torch.flip(torch.softmax(logits.float(), dim=1), axes)
        return torch.log(total / len(self.flips))  # type: ignore[arg-type]


class InsideBrain(Inferer):
    """Background for certain where every sequence is exactly 0, which is outside the brain.

    Args:
        inferer: gives logits `(B, C, X, Y, Z)`, channel 0 being background.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return background_outside(self.inferer(inputs, network, *args, **kwargs), torch.as_tensor(inputs))


def whole_volume(
    patch_size: Sequence[int],
    amp: str | bool,
    device: torch.device | str,
    overlap: float = 0.5,
    flips: Sequence[int] = (),
    windows: int = 1,
) -> Inferer:
    """Sliding windows of ``patch_size``, weighted by a Gaussian where they overlap; background outside the brain.

    Args:
        patch_size: X, Y, Z, that of the training.
        amp: see :class:`mrsynth.training.Precision`.
        device: of the network.
        overlap: share of a window, from 0 to below 1.
        flips: axes mirrored at test time.
        windows: in one forward pass.
    """
    sliding = SlidingWindowInferer(list(patch_size), sw_batch_size=windows, overlap=overlap, mode="gaussian")
    return InsideBrain(Flipped(PrecisionInferer(amp, device, sliding), flips))
