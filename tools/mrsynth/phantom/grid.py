"""The BraTS field of view and its coarser grids.

BraTS volumes are 240 x 240 x 155 voxels of 1 mm, LPS, the corner at world (0, 239, 0). All anatomy is made on
the 1 mm grid; a coarser voxel is the average of the fine voxels it covers, as a thicker scan would be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrsynth.errors import UserError

FINE_SHAPE = (240, 240, 156)
"""The 1 mm grid on which anatomy is made: that of BraTS with one more slice, so that every spacing divides it."""

BRATS_SHAPE = (240, 240, 155)
SPACINGS = (1, 2, 3, 4)


@dataclass(frozen=True)
class PhantomGrid:
    """A grid over the BraTS field of view.

    Args:
        spacing: voxel edge in mm, one of 1, 2, 3, 4.

    Raises:
        UserError: another spacing.
    """

    spacing: float

    def __post_init__(self) -> None:
        if isinstance(self.spacing, bool) or self.spacing not in SPACINGS:
            raise UserError(
                f"a voxel size that divides the BraTS field of view: one of {SPACINGS} mm",
                repr(self.spacing),
                "spacing",
                "pass --spacing 2, or 1 for the 240x240x155 voxels of BraTS",
            )

    @property
    def factor(self) -> int:
        return int(self.spacing)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along X, Y, Z: 240x240x155, 120x120x78, 80x80x52 or 60x60x39."""
        if self.factor == 1:
            return BRATS_SHAPE
        x, y, z = (length // self.factor for length in FINE_SHAPE)
        return x, y, z

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to world mm (RAS+), 4x4; at 1 mm the affine of BraTS."""
        half = (self.factor - 1) / 2
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*[float(self.factor)] * 3, 1.0])
        affine[:3, 3] = (-half, 239 - half, half)
        return affine

    def coarsen(self, fine: np.ndarray) -> np.ndarray:
        """Average blocks of ``factor`` voxels along the last three axes."""
        if self.factor == 1:
            return fine
        for axis in (-3, -2, -1):
            at = [slice(None)] * fine.ndim
            parts = []
            for offset in range(self.factor):
                at[axis] = slice(offset, None, self.factor)
                parts.append(fine[tuple(at)])
            fine = sum(parts[1:], start=parts[0]) / np.float32(self.factor)
        return fine
