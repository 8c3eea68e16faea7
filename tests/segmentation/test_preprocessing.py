"""What a segmenter is given of a subject's files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from mrsynth.segmentation import preprocessing


@pytest.mark.parametrize("spatial_size", [None, [12, 14, 10]])
def test_image_brain_and_label_on_one_grid(items, spatial_size):
    item = Compose(preprocessing(spatial_size, "brain"))(items[0])
    assert set(item) == {"image", "brain", "label", "native", "subject"}
    image, brain, label = (item[key].as_tensor() for key in ("image", "brain", "label"))
    assert image.shape[1:] == brain.shape[1:] == label.shape[1:]
    assert spatial_size is None or list(image.shape[1:]) == spatial_size
    assert image.dtype == torch.float32 and brain.dtype == label.dtype == torch.uint8
    inside = image[:, brain[0] > 0].double()
    assert torch.allclose(inside.mean(dim=1), torch.zeros(4).double(), atol=1e-5)
    assert torch.allclose(inside.std(dim=1, unbiased=False), torch.ones(4).double(), atol=1e-5)
    assert not image[:, brain[0] == 0].any() and not label[0][brain[0] == 0].any()
    assert set(label.unique().tolist()) == {0, 1, 2, 3}
    assert tuple(item["native"]["shape"]) == (24, 24, 20)


def test_the_label_of_the_files_is_kept_where_it_is_asked_for(items, make_brain):
    item = Compose(preprocessing([12, 14, 10], "brain", keep_native=True))(items[2])
    assert np.array_equal(item["native_label"].numpy()[0], make_brain(2).label)


def test_without_a_label_a_servers_own_keys_go_through(items):
    bare = {"image": items[0]["image"], "image_path": "somewhere", "device": "cpu"}
    item = Compose(preprocessing(None, "brain", label=False))(bare)
    assert item["image_path"] == "somewhere" and "label" not in item
    labeled = Compose(preprocessing(None, "brain"))(items[0])
    assert torch.equal(item["image"].as_tensor(), labeled["image"].as_tensor())


def test_what_was_written_on_the_training_grid_is_not_resampled_again(items, brats, make_brain, tmp_path):
    write, entry = brats
    write(tmp_path, "ready", make_brain(3, shape=(20, 22, 18)))
    item = Compose(preprocessing([20, 22, 18], "brain"))(entry(tmp_path, "ready"))
    assert np.array_equal(item["label"].numpy()[0] > 0, make_brain(3, shape=(20, 22, 18)).label > 0)


def test_images_are_interpolated_as_asked_and_labels_never(items):
    linear, nearest = (
        Compose(preprocessing([16, 18, 14], "none", interpolation=how))(items[0]) for how in ("linear", "nearest")
    )
    shades = [len(item["image"].as_tensor()[3].unique()) for item in (linear, nearest)]
    native = Compose(preprocessing(None, "none"))(items[0])["image"].as_tensor()[3]
    assert shades[1] <= len(native.unique()) and not torch.equal(linear["image"], nearest["image"])
    assert torch.equal(linear["label"].as_tensor(), nearest["label"].as_tensor())
    one, other = (Compose(preprocessing(None, "brain", interpolation=how))(items[0]) for how in ("linear", "nearest"))
    assert torch.equal(one["image"].as_tensor(), other["image"].as_tensor())  # on whole voxels there is no choice


def test_an_unknown_interpolation_is_refused(refused):
    with refused(expected="'nearest'", found="'cubic'", where="interpolation"):
        preprocessing(None, "brain", interpolation="cubic")
