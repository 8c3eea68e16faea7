"""From tissue to signal: four sequences with scanner artifacts.

White matter in T1 has the signal 1. Whatever differs between acquisitions is drawn for each sequence: tissue contrast,
thickness and direction of the slices, bias field, noise, and the arbitrary scale of the stored numbers.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mrsynth.conventions import SEQUENCES
from mrsynth.phantom.anatomy import Brain
from mrsynth.phantom.fields import Array, NoiseVolume, smooth_field, smoothstep
from mrsynth.phantom.grid import FINE_SHAPE, PhantomGrid
from mrsynth.phantom.tumor import Tumor

# mean signal and its spread between subjects
_SIGNAL: dict[str, dict[str, tuple[float, float]]] = {
    "t1": {
        "csf": (0.32, 0.03), "gray": (0.77, 0.045), "white": (1.00, 0.0), "vessel": (0.55, 0.10),
        "necrosis": (0.58, 0.06), "enhancing": (0.80, 0.05), "edema": (0.74, 0.04),
    },
    "t1ce": {
        "csf": (0.30, 0.03), "gray": (0.78, 0.03), "white": (1.00, 0.0), "vessel": (2.10, 0.25),
        "necrosis": (0.55, 0.06), "enhancing": (1.85, 0.20), "edema": (0.76, 0.04),
    },
    "t2": {
        "csf": (1.75, 0.12), "gray": (0.66, 0.03), "white": (0.46, 0.02), "vessel": (0.15, 0.04),
        "necrosis": (1.35, 0.15), "enhancing": (0.82, 0.08), "edema": (1.05, 0.08),
    },
    "flair": {
        "csf": (0.22, 0.04), "gray": (0.94, 0.04), "white": (0.74, 0.02), "vessel": (0.25, 0.05),
        "necrosis": (1.05, 0.25), "enhancing": (1.25, 0.10), "edema": (1.50, 0.10),
    },
}  # fmt: skip

_SCALE = {"t1": (350, 1500), "t1ce": (350, 2200), "t2": (400, 2600), "flair": (450, 1500)}
"""Stored value of the signal 1, drawn log-uniformly; the range is that of real releases."""


def acquire(rng: np.random.Generator, grid: PhantomGrid, brain: Brain, tumor: Tumor) -> tuple[Array, Array]:
    """Image one subject on a grid.

    Args:
        rng: draws contrast, slices, bias, noise and scale.
        grid: grid of the image.
        brain, tumor: the subject at its fine voxels.

    Returns:
        int16 ``(4, X, Y, Z)`` in the project's sequence order, at least 1 inside the brain and 0 outside, and
        the uint8 label map ``(X, Y, Z)``.
    """
    low = brain.low // grid.factor
    share = grid.coarsen(brain.inside.astype(np.float32))
    mask = share >= 0.5
    label = np.where(mask, _label(grid, brain, tumor), 0).astype(np.uint8)
    box = tuple(slice(a, a + n) for a, n in zip(low, mask.shape, strict=True))
    axes = [
        (np.arange(a, a + n, dtype=np.float32) + 0.5) * grid.factor - 0.5 for a, n in zip(low, mask.shape, strict=True)
    ]
    texture = NoiseVolume(rng, 6.0)(brain.head)
    skin = np.flatnonzero(brain.depth < 2.2)
    patches = np.zeros_like(texture)
    patches[skin] = NoiseVolume(rng, 50.0)(brain.head[:, skin])
    seeds = rng.integers(2**63, size=len(SEQUENCES))
    # the working box may reach one slice beyond BraTS's 155
    padded = [max(n, s.stop) for n, s in zip(grid.shape, box, strict=True)]
    x, y, z = grid.shape
    image = np.zeros((len(SEQUENCES), *grid.shape), dtype=np.int16)
    labels = np.zeros(padded, dtype=np.uint8)
    labels[box] = label
    for channel, sequence in enumerate(SEQUENCES):
        own = np.random.default_rng(int(seeds[channel]))
        fine = np.zeros(brain.inside.shape, dtype=np.float32)
        fine[brain.inside] = _signal(own, sequence, brain, tumor, texture, patches)
        signal = np.where(mask, grid.coarsen(fine) / np.maximum(share, 1e-3), 0)
        volume = np.zeros(padded, dtype=np.int16)
        volume[box] = _scan(own, grid, sequence, signal, mask, axes)
        image[channel] = volume[:x, :y, :z]
    return image, np.ascontiguousarray(labels[:x, :y, :z])


def _label(grid: PhantomGrid, brain: Brain, tumor: Tumor) -> Array:
    """The label that covers most of each voxel. A voxel of which at least half is tumor gets a tumor label."""
    fine = np.zeros(brain.inside.shape, dtype=np.uint8)
    fine[brain.inside] = tumor.label
    if grid.factor == 1:
        return fine
    values = [int(v) for v in np.unique(tumor.label) if v]
    covers = np.stack([grid.coarsen((fine == v).astype(np.float32)) for v in values])
    return np.where(covers.sum(0) >= 0.5, np.array(values)[covers.argmax(0)], 0)


def _signal(
    rng: np.random.Generator, sequence: str, brain: Brain, tumor: Tumor, texture: Array, patches: Array
) -> Array:
    """The signal before scanner artifacts, float32 ``(N,)``."""
    value = {name: np.float32(rng.normal(mean, spread)) for name, (mean, spread) in _SIGNAL[sequence].items()}
    white = value["white"] * (1 + 0.10 * (brain.myelin - 0.85) * (1 if sequence.startswith("t1") else -1))
    signal = value["csf"] * brain.csf + value["gray"] * brain.gray + white * brain.white
    folded = np.stack([np.abs(brain.template[0]), brain.template[1], brain.template[2]])
    if sequence in ("t2", "flair"):  # iron darkens the pallidum
        iron = sum(((folded[a] - c) / r) ** 2 for a, (c, r) in enumerate(((19, 7), (-5, 10), (-2, 6))))
        signal *= 1 - 0.18 * smoothstep((1.4 - iron) / 0.8)
    if sequence == "flair":  # caps of the ventricles
        signal *= 1 + rng.uniform(0.1, 0.5) * brain.cap * brain.white
    if sequence == "t1ce":  # the meninges take up contrast in places
        skin = smoothstep((2.2 - brain.depth) / 1.5) * smoothstep(patches * 0.8)
        falx = smoothstep((1.3 - folded[0]) / 0.8) * smoothstep((brain.csf - 0.2) / 0.4) * (brain.template[2] > 12)
        signal += rng.uniform(0.2, 0.7) * np.maximum(skin, 1.5 * falx)
    signal += (value["vessel"] - signal) * brain.vessel
    signal *= 1 + 0.02 * texture
    coarse, fine = tumor.texture
    if not tumor.cystic:  # living tissue that does not enhance looks like dense edema
        value["necrosis"] += np.float32(0.6) * (value["edema"] - value["necrosis"])
    wet = 0.85 * tumor.edema * (1 - brain.csf) * (1 - 0.35 * brain.gray)
    signal += wet * (value["edema"] * (1 + 0.07 * coarse + 0.03 * fine) - signal)
    signal += tumor.necrosis * (value["necrosis"] * (1 + 0.13 * coarse + 0.06 * fine) - signal)
    signal += tumor.enhancing * (value["enhancing"] * (1 + 0.18 * coarse + 0.10 * fine) - signal)
    return np.maximum(signal, 0.02)


def _scan(
    rng: np.random.Generator, grid: PhantomGrid, sequence: str, signal: Array, mask: Array, axes: list[Array]
) -> Array:
    """Apply slices, bias, noise and scale; int16, zero outside ``mask``."""
    in_plane, across = rng.uniform(0.35, 0.6), rng.uniform(0.4, 1.8)
    direction = 2 if sequence != "t1ce" else int(rng.choice([0, 1, 2]))
    sigma = np.array([in_plane] * 3)
    sigma[direction] = across if sequence != "t1ce" else in_plane
    sigma = np.sqrt(np.maximum((sigma / grid.factor) ** 2 - 0.05 * (grid.factor > 1), 0))
    if sigma.max() > 0.2:
        weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=3)
        signal = ndimage.gaussian_filter(signal, sigma, truncate=3) / np.maximum(weight, 1e-3)
    bias = smooth_field(rng, axes, [float(n) for n in FINE_SHAPE], 70.0)[0]
    noise_level = rng.uniform(0.008, 0.028) / grid.factor
    low, high = np.log(_SCALE[sequence])
    scale = np.exp(rng.uniform(low, high))
    where = np.flatnonzero(mask)
    values = signal.ravel()[where] * np.exp(rng.uniform(0.04, 0.10) * bias.ravel()[where])
    real, imaginary = rng.standard_normal((2, len(where)), dtype=np.float32) * np.float32(noise_level)
    values = np.hypot(values + real, imaginary) * scale
    image = np.zeros(signal.shape, dtype=np.int16)
    image.ravel()[where] = np.clip(np.round(values), 1, 32767).astype(np.int16)
    return image
