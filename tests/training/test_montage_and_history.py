"""Pictures of volumes, and the scalars of a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.image import imread

from mrsynth.training import History, Montage, MontageRow, tumor_center
from mrsynth.training.montage import COLORS


@pytest.fixture
def row(make_brain) -> MontageRow:
    subject = make_brain(0)
    image = subject.image / 500 - 1.0
    return MontageRow("A", image, subject.label, (6.0, 6.0, 6.0), tumor_center(subject.label))


def test_the_center_lies_in_the_tumor(make_brain):
    for seed in range(5):
        label = make_brain(seed).label
        assert label[tumor_center(label)] > 0
    assert tumor_center(np.zeros((4, 6, 8))) == (2, 3, 4)


def test_a_row_shows_three_planes_of_every_channel_in_millimeters(row):
    mosaic = Montage([row], ("t1", "t1ce", "t2", "flair"), 6.0).draw()
    # axial 24 x 24, coronal 24 wide and 20 high, sagittal likewise; two pixels between tiles
    assert mosaic.shape == (24 + 2, 4 * 3 * (24 + 2), 3)
    assert Montage([row, row], ("t1",), 3.0).draw().shape[0] == 2 * (48 + 2)


def test_black_is_minus_one_and_white_is_one():
    image = np.full((1, 8, 8, 8), -1.0)
    image[0, 2:6, 2:6, 2:6] = 1.0
    mosaic = Montage([MontageRow("", image, None, (1.0, 1.0, 1.0), (4, 4, 4))], ("t1",), 1.0).draw()
    assert mosaic[4, 4].tolist() == [1, 1, 1] and mosaic[0, 0].tolist() == [0, 0, 0]
    assert mosaic.min() == 0 and mosaic.max() == 1


def test_each_tumor_value_is_outlined_in_its_color_and_gray_elsewhere(row):
    mosaic = Montage([row], ("t1", "t1ce", "t2", "flair"), 3.0).draw().reshape(-1, 3)
    colored = {tuple(np.round(pixel, 3)) for pixel in mosaic[np.ptp(mosaic, axis=1) > 1e-6]}
    assert colored == {tuple(np.round(np.float32(color), 3)) for color in COLORS.values()}
    row.label = None
    assert np.ptp(Montage([row], ("t1",), 3.0).draw(), axis=2).max() == 0


def test_the_nose_points_up_and_the_vertex_too():
    """In LPS the nose is at small Y, the vertex at large Z."""
    image = np.full((1, 9, 9, 9), -1.0)
    image[0, 4, 1, 4] = 1.0  # in front
    image[0, 4, 4, 7] = 1.0  # on top
    mosaic = Montage([MontageRow("", image, None, (1.0, 1.0, 1.0), (4, 4, 4))], ("t1",), 1.0).draw()[..., 0]
    axial, coronal, sagittal = (mosaic[:9, i * 11 : i * 11 + 9] for i in range(3))
    assert np.argwhere(axial == 1).tolist() == [[1, 4]]
    assert np.argwhere(coronal == 1).tolist() == [[1, 4]]
    assert [1, 4] in np.argwhere(sagittal == 1).tolist() and len(np.argwhere(sagittal == 1)) == 2


def test_a_montage_is_a_picture(row, tmp_path):
    Montage([row, row], ("t1", "t1ce", "t2", "flair")).save(tmp_path / "sub" / "m.png", "epoch 1")
    picture = imread(tmp_path / "sub" / "m.png")
    assert picture.ndim == 3 and picture.std() > 0.05


def test_history_comes_back_without_what_a_killed_run_did_after_its_checkpoint(tmp_path):
    history = History(tmp_path / "h.csv")
    for epoch in (1, 2, 3):
        history.add(epoch, 10 * epoch, {"loss": 1.0 / epoch, "never": math.nan, "much": math.inf})
    history.save()
    assert History(tmp_path / "h.csv", 2).rows == [(1, 10, "loss", 1.0), (2, 20, "loss", 0.5)]
    assert History(tmp_path / "h.csv").rows == []  # a new run
    assert History(tmp_path / "none.csv", 2).rows == []


def test_curves_are_a_picture_and_none_is_made_of_nothing(tmp_path):
    history = History(tmp_path / "h.csv")
    history.draw(tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    for iteration in range(5):
        history.add(1, iteration, {name: iteration**0.5 for name in ("a", "b", "c", "d")})
    history.draw(tmp_path / "c.png")
    assert imread(tmp_path / "c.png").std() > 0.05
