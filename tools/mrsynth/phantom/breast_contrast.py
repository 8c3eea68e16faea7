"""From tissue to signal: a T2-weighted image and a dynamic T1 series without fat suppression, with scanner artifacts.

The protocol is Kuhl's (Radiology 283, 361-370, 2017), which was used for Haarburger's data: axial T2-weighted turbo
spin echo, and T1-weighted gradient echo once before and four times after contrast agent, 70 s apart. Fat is bright in
all images. Enhancing tissue becomes as bright as fat and stands out only in the subtraction. Fat in T1 has the
signal 1.

A tissue has seven numbers: its signal in T2; the fat part of its T1 signal, which has a chemical shift and does not
enhance; and the water part, before contrast and at the four times after it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from mrsynth.manifest.breasts import SEQUENCES
from mrsynth.phantom.breast_anatomy import AIR, EXTENT, THICKNESS, TISSUES, Anatomy, Slab
from mrsynth.phantom.breast_lesions import Lesion
from mrsynth.phantom.fields import Array, smooth_field

TIMES = (70.0, 140.0, 210.0, 280.0)
"""Seconds from the contrast agent to the middle of each image after it."""

# T2, fat in T1, water in T1, and how much of that is added at the four times
_SIGNAL: dict[str, tuple[float, float, float, tuple[float, float, float, float]]] = {
    "air": (0.0, 0.0, 0.0, (0, 0, 0, 0)),
    "fat": (0.92, 1.0, 0.0, (0, 0, 0, 0)),
    "muscle": (0.24, 0.0, 0.46, (0.10, 0.16, 0.19, 0.20)),
    "lung": (0.06, 0.0, 0.05, (0.5, 0.5, 0.45, 0.45)),
    "cortex": (0.06, 0.0, 0.08, (0.1, 0.1, 0.1, 0.1)),
    "marrow": (0.55, 0.35, 0.27, (0.20, 0.30, 0.33, 0.33)),
    "cartilage": (0.40, 0.0, 0.50, (0.04, 0.06, 0.08, 0.09)),
    "heart": (0.30, 0.0, 0.46, (0.75, 0.68, 0.60, 0.56)),
    "blood": (0.12, 0.0, 0.40, (1.60, 1.25, 1.10, 1.02)),
    "liver": (0.32, 0.0, 0.58, (0.45, 0.60, 0.60, 0.58)),
    "fluid": (1.30, 0.0, 0.22, (0.0, 0.02, 0.02, 0.03)),
    "gland": (0.55, 0.06, 0.46, (0.15, 0.25, 0.32, 0.37)),
    "ligament": (0.22, 0.0, 0.42, (0.04, 0.07, 0.09, 0.10)),
    "vessel": (0.35, 0.0, 0.42, (1.30, 1.10, 1.00, 0.92)),
    "cyst": (1.45, 0.0, 0.34, (0, 0, 0, 0)),
    "skin": (0.35, 0.0, 0.52, (0.25, 0.36, 0.42, 0.45)),
    "nipple": (0.42, 0.0, 0.50, (0.45, 0.65, 0.75, 0.80)),
}

_SCALE = (400, 1100)
"""Stored value of a signal of 1, drawn log-uniformly for T2 and for the T1 series."""

_SUBSLICES = (-0.25, 0.25)
"""Positions within the thickness of a slice at which the breast is sampled; the slice is their mean."""

_BLUR = np.array([0.12, 0.76, 0.12], dtype=np.float32)


def tissue_signals(rng: np.random.Generator) -> dict[str, Array]:
    """The seven numbers of each tissue of one subject. Background enhancement ranges from minimal to marked."""
    table = {}
    background = np.exp(rng.normal(-0.15, 0.55))
    for name, (t2, fat, water, uptake) in _SIGNAL.items():
        t2, water = t2 * np.exp(rng.normal(0, 0.06)), water * np.exp(rng.normal(0, 0.06))
        gain = background if name == "gland" else np.exp(rng.normal(0, 0.12))
        table[name] = np.array([t2, fat, water, *(water * (1 + gain * share) for share in uptake)], dtype=np.float32)
    return table


def draw(anatomy: Anatomy, lesions: Sequence[Lesion], table: dict[str, Array], slab: Slab) -> tuple[Array, Array]:
    """Signals without scanner artifacts.

    Args:
        anatomy, lesions: of the subject.
        table: from :func:`tissue_signals`.
        slab: grid of the image.

    Returns:
        The seven numbers of each voxel, float32 ``(7, X, Y, Z)``; and the lesions 1, 2, ... as uint8 ``(X, Y, Z)``. A
        voxel belongs to the lesion that fills at least half of it.
    """
    at = anatomy.positions(slab)
    skin, torso = anatomy.outline(at)
    slope = np.gradient(skin, *slab.axes)
    steepness = np.sqrt(sum(part * part for part in slope)).ravel()
    aslant = np.abs(slope[2]).ravel()
    at, skin, torso = at.reshape(3, -1), skin.ravel(), torso.ravel()
    inside = np.flatnonzero(skin < THICKNESS / 2)
    under = anatomy.under_fat(at[:, inside], torso[inside])
    label = np.zeros(skin.size, dtype=np.uint8)
    label[inside] = np.where(skin[inside] < 0, anatomy.chest(at[:, inside], under), AIR)
    values = np.stack([table[name] for name in TISSUES], axis=1)[:, label]
    soft = inside[(under < 1) & (at[1, inside] < anatomy.half_depth)]
    steep = np.maximum(steepness[soft], 0.3)
    blur = 0.8 + aslant[soft] / steep * np.float32(THICKNESS / len(_SUBSLICES))
    mean = np.zeros((7, len(soft)), dtype=np.float32)
    shares = np.zeros((len(lesions), len(soft)), dtype=np.float32)
    for offset in _SUBSLICES:
        here = at[:, soft] + np.array([[0], [0], [offset * THICKNESS]], dtype=np.float32)
        surface, chest = anatomy.outline(here)
        tissue = anatomy.parenchyma(here, -surface / steep, -anatomy.under_fat(here, chest), blur)
        mean += _compose(tissue, lesions, table, here, shares) / len(_SUBSLICES)
    values[:, soft] = mean
    mask = np.zeros(skin.size, dtype=np.uint8)
    for number, share in enumerate(shares / len(_SUBSLICES), start=1):
        mask[soft[share >= min(0.5, float(share.max()))]] = number
    return values.reshape(7, *slab.shape), mask.reshape(slab.shape)


def _compose(
    tissue: dict[str, Array], lesions: Sequence[Lesion], table: dict[str, Array], at: Array, shares: Array
) -> Array:
    """The seven numbers ``(7, N)`` of points in front of the chest muscles; adds the lesions' shares to ``shares``."""
    values = np.repeat(table["fat"][:, None], at.shape[1], axis=1)

    def lay(share: Array, value: Array, where: Array | slice = slice(None)) -> None:
        values[:, where] += share * (value - values[:, where])

    lay(tissue["ligament"], table["ligament"][:, None])
    gland = np.repeat(table["gland"][:, None], at.shape[1], axis=1)
    gland[3:] = gland[2] + (gland[3:] - gland[2]) * (0.35 + 1.3 * tissue["patch"])
    lay(tissue["gland"], gland)
    lay(tissue["vessel"], table["vessel"][:, None])
    lay(tissue["cyst"], table["cyst"][:, None])
    for lesion, share in zip(lesions, shares, strict=True):
        arm = at - lesion.center[:, None]
        near = np.flatnonzero((arm * arm).sum(0) < lesion.reach**2)
        within, shown, value = lesion.paint(at[:, near], TIMES, table["fat"])
        lay(shown, value, near)
        share[near] += within
    for name in ("muscle", "skin", "nipple"):
        lay(tissue[name], table[name][:, None])
    return values * tissue["body"]


def scan(rng: np.random.Generator, values: Array, slab: Slab) -> Array:
    """Add scanner artifacts: motion, chemical shift, blur, coil sensitivity, noise, and an arbitrary scale.

    Args:
        rng: draws the artifacts.
        values: from :func:`draw`.

    Returns:
        int16 ``(6, X, Y, Z)`` in the order of :data:`SEQUENCES`.
    """
    t2, fat, *water = values
    fat = ndimage.shift(fat, (0, rng.uniform(0.2, 0.9) / slab.pixel, 0), order=1, prefilter=False)
    restless = rng.uniform(0.10, 0.35) * (2.5 if rng.uniform() < 0.15 else 1)
    # the coil lies under the breasts: the back is far from it
    reach = 1 / (1 + np.maximum(slab.axes[1] + 5, 0) / rng.uniform(80, 130)) ** 1.6
    bias = smooth_field(rng, slab.within, EXTENT, 90.0)[0] * np.float32(rng.uniform(0.05, 0.12))
    sensitivity = np.exp(bias) * reach[:, None].astype(np.float32)
    noise = np.float32(rng.uniform(0.013, 0.026) * 0.65 / slab.pixel)
    scales = np.exp(rng.uniform(np.log(_SCALE[0]), np.log(_SCALE[1]), 2))
    images = np.empty((len(SEQUENCES), *slab.shape), dtype=np.int16)
    for channel in range(len(SEQUENCES)):
        image = _move(rng, t2 if channel == 0 else fat + water[channel - 1], restless, slab)
        for axis in (0, 1):
            image = ndimage.convolve1d(image, _BLUR, axis=axis)
        image *= sensitivity
        real, imaginary = rng.standard_normal((2, *slab.shape), dtype=np.float32) * noise
        real += image
        magnitude = np.sqrt(real * real + imaginary * imaginary) * np.float32(scales[min(channel, 1)])
        images[channel] = np.minimum(np.rint(magnitude), 32767)
    return images


def _move(rng: np.random.Generator, image: Array, amount: float, slab: Slab) -> Array:
    """The image after small in-plane motion: a shift of the whole body and a smooth deformation.

    Args:
        amount: standard deviation of the displacement in mm.
    """
    import torch  # here alone: the processes that make brains do without it

    rigid = rng.normal(0, amount, 2).astype(np.float32)
    knots = [np.linspace(axis[0], axis[-1], 25, dtype=np.float32) for axis in slab.within[:2]]
    field = smooth_field(rng, [*knots, slab.within[2]], EXTENT, 80.0, 2) * np.float32(0.7 * amount)
    field += rigid[:, None, None, None]
    # torch's images are (slices, channels, rows, columns), its coordinates run from -1 to 1 over the field of view
    shift = torch.from_numpy(np.ascontiguousarray(field.transpose(3, 0, 2, 1)) / np.float32(EXTENT[0] / 2))
    shift = torch.nn.functional.interpolate(shift, size=(slab.matrix, slab.matrix), mode="bilinear", align_corners=True)
    line = torch.from_numpy((slab.within[0] / np.float32(EXTENT[0] / 2)) - 1)
    grid = torch.stack((shift[:, 0] + line, shift[:, 1] + line[:, None]), dim=-1)
    still = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 1, 0)))[:, None]
    moved = torch.nn.functional.grid_sample(still, grid, padding_mode="border", align_corners=False)
    return np.ascontiguousarray(moved[:, 0].numpy().transpose(2, 1, 0))
