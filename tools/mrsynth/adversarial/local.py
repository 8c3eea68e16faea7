"""A local discriminator (Iizuka 2017): it sees a crop around the tumor at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from mrsynth.errors import UserError


class LocalDiscriminator(nn.Module):
    """Two discriminators in one: ``whole`` on the whole volume, ``local`` on a crop of fixed size around the tumor.

    Where the tumor is follows from the condition, so that what is real is the subject's tumor in its own MRI and
    what is fake the generator's, wherever it was asked for one. The crop's middle is the tumor's median along each
    axis (not its box's middle, which a far satellite would move off the tumor), or as near to it as the crop can lie
    inside the grid; a volume without a tumor is cropped in its middle.

    Call it like any discriminator. It returns the logits of both, by the prefix of their losses' names: ``""`` and
    ``local_``.

    Args:
        whole: discriminator of image and condition.
        local: another.
        size: X, Y, Z of the crop.
        find: from the condition `(B, K, X, Y, Z)` to the tumor, bool `(B, X, Y, Z)`.

    Raises:
        UserError: a crop of no size, or (when called) larger than the grid.
    """

    def __init__(
        self,
        whole: nn.Module,
        local: nn.Module,
        size: Sequence[int],
        find: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__()
        self.size = tuple(int(n) for n in size)
        if len(self.size) != 3 or min(self.size) < 1:
            raise UserError("three positive sizes X, Y, Z", str(size), "local_size", "pass --local_size [24,24,24]")
        self.whole, self.local, self.find = whole, local, find

    def forward(self, image: torch.Tensor, condition: torch.Tensor) -> dict[str, torch.Tensor]:
        starts = crop_starts(self.find(condition), self.size)
        cropped = [crop_each(volume, starts, self.size) for volume in (image, condition)]
        return {"": self.whole(image, condition), "local_": self.local(*cropped)}


def crop_starts(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """First voxel of a crop of ``size`` around the median of each mask along each axis, inside the grid.

    Args:
        mask: bool `(B, X, Y, Z)`.
        size: X, Y, Z.

    Returns:
        Integers, `(B, 3)`.

    Raises:
        UserError: a crop that is larger than the grid.
    """
    if any(wanted > side for wanted, side in zip(size, mask.shape[1:], strict=True)):
        raise UserError(
            f"a crop within the grid {tuple(mask.shape[1:])}",
            str(tuple(size)),
            "local_size",
            f"pass sizes up to {tuple(mask.shape[1:])}",
        )
    starts = []
    for axis, wanted in enumerate(size):
        side = mask.shape[1 + axis]
        below = mask.sum(dim=[1 + other for other in range(3) if other != axis]).cumsum(dim=1)
        total = below[:, -1]
        median = (2 * below > total[:, None]).int().argmax(dim=1)
        middle = torch.where(total > 0, median, side // 2)
        starts.append((middle - wanted // 2).clamp(0, side - wanted))
    return torch.stack(starts, dim=1)


def crop_each(volume: torch.Tensor, starts: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Crop each image or volume `(C, ...)` of a batch at its own start: `(B, C, *size)`."""
    crops = []
    for item, start in zip(volume, starts.tolist(), strict=True):
        window = [slice(None), *[slice(a, a + n) for a, n in zip(start, size, strict=True)]]
        crops.append(item[tuple(window)])
    return torch.stack(crops)
