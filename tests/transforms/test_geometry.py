"""Where voxels are: affines, resampling, boxes."""

from __future__ import annotations

import numpy as np
import pytest

from mrsynth.manifest.check import affine_of
from mrsynth.transforms import bounding_box, box_grid, box_map, geometry, resample
from mrsynth.transforms.geometry import to_sitk

OBLIQUE = np.array([[-1.9, 0.3, 0.1, 80.0], [0.3, 1.9, -0.2, -60.0], [0.1, 0.15, 2.5, 12.0], [0, 0, 0, 1]])
OBLIQUE[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0] * [2.0, 1.5, 3.0]


def at(affine: np.ndarray, index) -> np.ndarray:
    """World point of a voxel index."""
    return affine[:3, :3] @ np.asarray(index, float) + affine[:3, 3]


def world(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """`(3, X, Y, Z)`: each voxel holds the world point of its center."""
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape).astype(np.float32)


def test_simpleitk_and_back_keeps_voxels_and_affine():
    array = np.random.default_rng(0).normal(size=(5, 6, 7))
    image = to_sitk(array, OBLIQUE)
    np.testing.assert_allclose(affine_of(image), OBLIQUE, atol=1e-9)
    assert image.GetSize() == (5, 6, 7)
    assert image.GetPixel(1, 2, 3) == array[1, 2, 3]
    # SimpleITK counts world x and y the other way
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((4, 0, 2)), at(OBLIQUE, (4, 0, 2)) * [-1, -1, 1])


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_resampling_onto_the_same_grid_changes_nothing(interpolation):
    array = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    same = resample(array, OBLIQUE, array.shape, OBLIQUE, interpolation)
    np.testing.assert_allclose(same, array, atol=1e-4)
    assert same.dtype == array.dtype


def test_a_resampled_voxel_shows_the_world_point_of_its_own_affine():
    shape = (20, 18, 16)
    points = world(shape, OBLIQUE)
    target = box_grid(OBLIQUE, np.array([3.0, 2.5, 4.0]), np.array([16.0, 15.0, 13.0]), np.array([10, 25, 5]))
    shown = np.stack([resample(p, OBLIQUE, (10, 25, 5), target, "linear") for p in points])
    np.testing.assert_allclose(shown, world((10, 25, 5), target), atol=1e-2)


def test_a_world_map_says_where_each_point_is_taken_from():
    points = world((20, 20, 20), OBLIQUE)
    moved = np.eye(4)
    moved[:3, 3] = (3.0, -2.0, 4.0)
    shown = np.stack([resample(p, OBLIQUE, (20, 20, 20), OBLIQUE, "linear", world_map=moved) for p in points])
    middle = (slice(None), slice(5, 15), slice(5, 15), slice(5, 15))
    expected = points + np.array([3.0, -2.0, 4.0], np.float32)[:, None, None, None]
    np.testing.assert_allclose(shown[middle], expected[middle], atol=1e-2)


def test_nearest_never_makes_a_label_value():
    label = np.random.default_rng(0).choice(np.array([0, 1, 2, 4], np.uint8), (13, 14, 15))
    for size in ((7, 9, 31), (40, 5, 15)):
        target = box_grid(OBLIQUE, np.array([-2.0, 0.3, 1]), np.array([12.0, 14, 15.5]), np.array(size))
        found = resample(label, OBLIQUE, size, target, "nearest")
        assert set(np.unique(found)) <= {0, 1, 2, 4} and found.dtype == np.uint8


def test_nearest_by_indexing_is_what_a_resampler_gives(monkeypatch):
    """Parallel axes take a short way; turned ones do not. Both must agree, halves between two voxels included."""
    random = np.random.default_rng(0)
    label = random.choice(np.array([0, 1, 2, 4], np.uint8), (13, 14, 15))
    cases = [((13, 14, 15), np.zeros(3), np.array([13.0, 14, 15]), np.eye(4))]
    cases += [
        ((13, 14, 10), np.zeros(3), np.array([13.0, 14, 15]), np.eye(4)),
        ((26, 7, 5), -np.ones(3), 15 * np.ones(3), np.eye(4)),
    ]
    for _ in range(20):
        world_map = np.diag([*random.uniform(0.7, 1.4, 3), 1])
        world_map[:3, 3] = random.uniform(-9, 9, 3)
        low = random.uniform(-3, 4, 3)
        cases.append((tuple(random.integers(3, 25, 3)), low, low + random.uniform(6, 14, 3), world_map))
    for size, low, high, world_map in cases:
        for affine in (np.diag([-2.0, -2.0, 3.0, 1.0]), np.diag([1.0, -1.0, -1.0, 1.0])):
            target = box_grid(affine, low, high, np.array(size))
            arguments = (label, affine, size, target, "nearest", 7, world_map)
            short = resample(*arguments)
            with monkeypatch.context() as patch:
                patch.setattr(geometry, "_pick_nearest", lambda *_: None)
                long = resample(*arguments)
            np.testing.assert_array_equal(short, long)
            assert short.dtype == long.dtype


def test_smoothing_before_coarsening_keeps_means_and_leaves_finer_axes_alone():
    noise = np.random.default_rng(0).normal(100, 10, (24, 24, 24)).astype(np.float32)
    target = box_grid(np.eye(4), np.zeros(3), np.array([24.0] * 3), np.array([24, 24, 8]))
    plain = resample(noise, np.eye(4), (24, 24, 8), target, "linear")
    smooth = resample(noise, np.eye(4), (24, 24, 8), target, "linear", antialias=True)
    assert smooth.mean() == pytest.approx(100, abs=0.5)
    assert smooth.std() < 0.7 * plain.std()
    # along x nothing was smoothed: neighbors are as unlike as before
    assert abs(np.corrcoef(smooth[:-1].ravel(), smooth[1:].ravel())[0, 1]) < 0.1
    flat = resample(np.full((24, 24, 24), 7, np.float32), np.eye(4), (24, 24, 8), target, "linear", antialias=True)
    np.testing.assert_allclose(flat, 7, atol=1e-3)


def test_bounding_box_holds_all_and_no_more():
    mask = np.zeros((9, 8, 7), bool)
    mask[2, 3, 4] = mask[5, 3, 6] = True
    low, high = bounding_box(mask)
    assert low.tolist() == [2, 3, 4] and high.tolist() == [6, 4, 7]


def test_a_box_grid_covers_its_box_edge_to_edge():
    low, high, size = np.array([2.0, 1.5, 3.0]), np.array([10.0, 9.0, 18.0]), np.array([4, 15, 6])
    grid = box_grid(OBLIQUE, low, high, size)
    np.testing.assert_allclose(at(grid, [-0.5] * 3), at(OBLIQUE, low - 0.5))
    np.testing.assert_allclose(at(grid, size - 0.5), at(OBLIQUE, high - 0.5))


def test_a_box_map_carries_one_box_onto_the_other():
    box = (np.array([2, 3, 4]), np.array([8, 13, 10]))
    other_affine, other = np.diag([1.0, 2.0, 3.0, 1.0]), (np.array([0, 1, 2]), np.array([12, 6, 8]))
    carried = box_map(OBLIQUE, box, other_affine, other)
    for corner in (0, 1):
        np.testing.assert_allclose(at(carried, at(OBLIQUE, box[corner] - 0.5)), at(other_affine, other[corner] - 0.5))
