"""Checkerboard artifacts: energy at the frequencies of a generator's upsampling steps (Odena et al. 2016,
"Deconvolution and checkerboard artifacts"; the spectra as in Durall et al. 2020 and Frank et al. 2020).

A layer that doubles the size, the n-th from the end, can leave a pattern that repeats every 2^n pixels. All of its
energy lies at the frequencies a / 2^n, b / 2^n cycles a pixel, down and across: narrow peaks in a spectrum that is
otherwise smooth. So the peaks are measured against what is around them.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import product

import numpy as np
import torch

from mrsynth.errors import UserError
from mrsynth.metrics.samples import image_batches
from mrsynth.representation import ShowsParameters

PERIODS = (2, 4, 8)
"""Pixels after which the patterns of the last, the second last and the third last doubling repeat."""

STEPS = PERIODS[-1]

LEAST_SIZE = 32
"""Pixels along an axis, so that between two peaks there is something to compare them with."""

FLOOR = 1e-8
"""Least power that counts, in parts of the mean over all frequencies: far below a scanner's noise."""

NOTHING = 1e-20
"""Mean power of images in [-1, 1] that do not vary, but by rounding."""


class PowerSpectrum(ShowsParameters):
    """Mean power spectrum of images that arrive in batches, over images and channels, in float64.

    Each channel is cut to a multiple of 8 pixels (about its center), so that the frequencies stand on the spectrum's
    own grid; its mean is subtracted and a Hann window applied, which spreads a single frequency over its direct
    neighbors and no farther. Parts add up by :meth:`merge`.
    """

    def __init__(self) -> None:
        self.count = 0
        """Images seen."""
        self._sum = torch.empty(0)

    def update(self, images: torch.Tensor | Iterable[torch.Tensor]) -> None:
        """Add images: one batch `(N, C, H, W)`, or an iterable of batches.

        Raises:
            UserError: no images, not two-dimensional, mixed sizes, fewer than 32 pixels along an axis, or intensities
                that are not finite.
        """
        for batch in image_batches(images, LEAST_SIZE):
            if batch.ndim != 4:
                raise UserError(
                    "images (N, C, H, W)", f"volumes {tuple(batch.shape)}", "the images", "take slices of the volumes"
                )
            height, width = (size - size % STEPS for size in batch.shape[2:])
            top, left = (batch.shape[2] - height) // 2, (batch.shape[3] - width) // 2
            cut = batch[:, :, top : top + height, left : left + width].double()
            window = torch.outer(*(torch.hann_window(size, dtype=torch.float64) for size in (height, width)))
            power = torch.fft.fft2((cut - cut.mean(dim=(2, 3), keepdim=True)) * window).abs().square().mean(dim=1)
            self._add(len(batch), power.sum(dim=0))

    def merge(self, other: PowerSpectrum) -> None:
        """Add the images that ``other`` has seen.

        Raises:
            UserError: they have another size.
        """
        if other.count:
            self._add(other.count, other._sum)

    @property
    def power(self) -> torch.Tensor:
        """Mean power, `(H, W)`; frequency 0 at the first element, as :func:`torch.fft.fft2` has it."""
        if not self.count:
            raise UserError("at least one image", "none", "the power spectrum", "call update(images) first")
        return self._sum / self.count

    def _add(self, count: int, power: torch.Tensor) -> None:
        if self.count and power.shape != self._sum.shape:
            raise UserError(
                "images of one size",
                f"spectra of {tuple(self._sum.shape)} and {tuple(power.shape)}",
                "the images",
                "resize or crop them to one size",
            )
        self._sum = self._sum + power if self.count else power.clone()
        self.count += count


def checkerboard_energy(
    images: torch.Tensor | Iterable[torch.Tensor] | PowerSpectrum,
) -> dict[str, float | dict[str, float]]:
    """How far the spectrum stands out at the upsampling frequencies.

    At each frequency, the mean of log10 power in the peak (3 x 3 frequencies) less that around it: the square about it
    at a distance of 2 to 4 frequencies (2 alone for small images); for a peak on an axis, along the axis. 0 is a
    spectrum without peaks, 1 one that holds ten times the power of its surroundings. Lower is better, down to the value
    of real images, which may differ from 0 by the shape of their spectrum and by how they were resampled: compute both
    and compare.

    Args:
        images: `(N, C, H, W)`, an iterable of such batches, or their spectrum.

    Returns:
        ``period_2``, ``period_4``, ``period_8``: the mean over the frequencies that a pattern of so many pixels has and
        a shorter one has not; ``energy``: the mean of these three; ``frequencies``: each by its name, "1/2, 0" for half
        a cycle a pixel down and none across, the mean of both directions; ``images``; ``height`` and ``width``, as
        they were cut.

    Raises:
        UserError: as :meth:`PowerSpectrum.update`, or images that are all constant.

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import checkerboard_energy
        >>> smooth = torch.rand(8, 1, 64, 64, generator=torch.Generator().manual_seed(0)).cumsum(-1).cumsum(-2)
        >>> checkered = smooth + 50 * (torch.arange(64) % 2)
        >>> checkerboard_energy(checkered)["energy"] > checkerboard_energy(smooth)["energy"]
        True
    """
    spectrum = images if isinstance(images, PowerSpectrum) else PowerSpectrum()
    if not isinstance(images, PowerSpectrum):
        spectrum.update(images)
    power = spectrum.power.numpy()
    if power.mean() < NOTHING:
        raise UserError(
            "images with something in them",
            "constant ones",
            "the images",
            "check the generator's output range; images are in [-1, 1]",
        )
    height, width = power.shape
    logarithm = np.log10(np.maximum(power, FLOOR * power.mean()))

    reach = max(2, min(4, min(height, width) // (2 * STEPS)))
    steps = np.arange(-reach, reach + 1)
    near = np.abs(steps) <= 1
    peak = np.outer(near, near)
    found: dict[tuple[Fraction, Fraction], list[float]] = {}
    for down, across in list(product(range(STEPS), repeat=2))[1:]:
        name = Fraction(min(down, STEPS - down), STEPS), Fraction(min(across, STEPS - across), STEPS)
        rows, columns = (down * height // STEPS + steps) % height, (across * width // STEPS + steps) % width
        patch = logarithm[np.ix_(rows, columns)]
        # straight edges and the borders of the image make a ridge of each axis, along which its peaks are measured
        around = ~peak & (near[:, None] | (down > 0)) & (near | (across > 0))
        found.setdefault(name, []).append(float(patch[peak].mean() - patch[around].mean()))

    periods: dict[int, list[float]] = {period: [] for period in PERIODS}
    frequencies: dict[str, float] = {}
    for name, values in sorted(found.items(), reverse=True):
        value = frequencies[f"{name[0]}, {name[1]}"] = float(np.mean(values))
        periods[max(fraction.denominator for fraction in name)].append(value)
    means = {f"period_{period}": float(np.mean(values)) for period, values in periods.items()}
    return {
        "energy": float(np.mean(list(means.values()))),
        **means,
        "frequencies": frequencies,
        "images": spectrum.count,
        "height": height,
        "width": width,
    }
