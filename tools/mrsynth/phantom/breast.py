"""One phantom breast MRI: anatomy, lesions and scan, each drawn from its own random stream."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrsynth.checks import whole_number
from mrsynth.phantom.breast_anatomy import Anatomy
from mrsynth.phantom.breast_contrast import draw, scan, tissue_signals
from mrsynth.phantom.breast_lesions import Lesion, draw_plans, places
from mrsynth.phantom.fields import Array

_STREAM = 16
"""Number of the first stream; phantom brains use those before it."""


def make_breast_subject(seed: int, index: int, matrix: int = 256) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
    """Make one subject in memory.

    Args:
        seed: seed of the cohort, at least 0.
        index: number of the subject, at least 0. The same seed and index give the same anatomy and lesions at every
            matrix, and the same voxels at the same matrix.
        matrix: pixels along each edge of a slice, 64 to 512; the field of view is 333 x 333 x 144 mm.

    Returns:
        The images, int16 ``(6, X, Y, Z)`` in the order t2, t1_pre, t1_post1 to t1_post4; the lesions 1, 2, ... as
        uint8 ``(X, Y, Z)``; the affine, 4x4, voxel to world mm; and of each lesion ``lesion`` (its value), ``class``,
        ``kind``, ``curve`` and ``diameter_mm``.

    Raises:
        UserError: a matrix, seed or index out of range.
    """
    seed, index = whole_number("seed", seed), whole_number("index", index)
    streams = [np.random.default_rng([seed, index, _STREAM + part]) for part in range(3)]
    anatomy = Anatomy(streams[0])
    slab = anatomy.slab(matrix)
    plans = draw_plans(streams[1], index, seed)
    lesions = [
        Lesion(plan, center, anatomy.breasts[0 if center[0] > 0 else 1].nipple)
        for plan, center in zip(plans, places(anatomy, plans), strict=True)
    ]
    values, mask = draw(anatomy, lesions, tissue_signals(streams[2]), slab)
    facts = [
        {"lesion": number, "class": plan.type, "kind": plan.kind, "curve": plan.curve, "diameter_mm": plan.diameter}
        for number, plan in enumerate(plans, start=1)
    ]
    return scan(streams[2], values, slab), mask, slab.affine, facts
