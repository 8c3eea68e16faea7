"""One phantom subject: anatomy, tumor and scan, each drawn from its own random stream."""

from __future__ import annotations

import numpy as np

from mrsynth.checks import whole_number
from mrsynth.phantom.anatomy import Anatomy
from mrsynth.phantom.contrast import acquire
from mrsynth.phantom.fields import Array
from mrsynth.phantom.grid import PhantomGrid
from mrsynth.phantom.tumor import choose_center, draw_plan, grow, push


def make_subject(seed: int, index: int, spacing: float = 1.0) -> tuple[Array, Array, Array]:
    """Make one subject in memory.

    Args:
        seed: seed of the cohort, at least 0.
        index: number of the subject, at least 0. The same seed and index give the same anatomy at every spacing,
            and the same voxels at the same spacing.
        spacing: voxel edge in mm: 1, 2, 3 or 4.

    Returns:
        The image, int16 ``(4, X, Y, Z)`` in the order t1, t1ce, t2, flair, 0 outside the brain and at least 1
        inside; the label map, uint8 ``(X, Y, Z)`` with values 0, 1, 2, 4; the affine, 4x4, voxel to world mm.

    Raises:
        UserError: a spacing that does not divide the field of view, or a negative seed or index.

    Examples:
        >>> from mrsynth.phantom import make_subject
        >>> image, label, affine = make_subject(seed=0, index=0, spacing=4.0)
        >>> image.shape, sorted(set(label.ravel().tolist()))
        ((4, 60, 60, 39), [0, 1, 2, 4])
    """
    grid = PhantomGrid(spacing)
    seed, index = whole_number("seed", seed), whole_number("index", index)
    anatomy = Anatomy(np.random.default_rng([seed, index, 0]))
    plan = draw_plan(np.random.default_rng([seed, index, 1]))
    center = choose_center(anatomy, plan)
    brain = anatomy.tissue(*push(anatomy, plan, center))
    tumor = grow(anatomy, brain, plan, center)
    image, label = acquire(np.random.default_rng([seed, index, 2]), grid, brain, tumor)
    return image, label, grid.affine
