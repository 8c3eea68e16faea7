"""From logits to a label on the subject's own grid, and to a file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose
from tqdm import tqdm

from mrsynth.metrics import region_scores
from mrsynth.segmentation import LogitsToLabeld, SegmentationWriter, preprocessing
from mrsynth.transforms.geometry import as_array


def prepared(item: dict, spatial_size, crop) -> dict:
    return Compose(preprocessing(spatial_size, crop, keep_native=True))(item)


def logits(item: dict) -> torch.Tensor:
    classes = item["label"].as_tensor()[0].long()
    return 20 * torch.nn.functional.one_hot(classes, 4).movedim(-1, 0).float()


def finished(item: dict, grid: str):
    return LogitsToLabeld(grid)({**item, "pred": logits(item)})["pred"]


@pytest.mark.parametrize("crop", ["brain", "none", [3, 17]])
def test_on_whole_voxels_the_label_comes_back_as_it_was(items, crop):
    item = prepared(items[0], None, crop)
    label = finished(item, "native")
    native = item["native_label"]
    assert label.shape == native.shape and label.dtype == torch.uint8
    assert torch.allclose(label.affine, native.affine)
    expected = native.as_tensor().clone()
    if isinstance(crop, list):  # nothing is found where nobody looked
        expected[..., : crop[0]], expected[..., crop[1] :] = 0, 0
    assert torch.equal(label.as_tensor(), expected) and label.any()


@pytest.mark.parametrize("grid", [[20, 24, 18], [40, 44, 36]], ids=["coarser", "finer"])
def test_on_another_grid_it_comes_back_alike(brats, make_brain, tmp_path, grid):
    write, entry = brats
    write(tmp_path, "A", make_brain(1, scale=2.0, shape=(48, 48, 40)))
    item = prepared(entry(tmp_path, "A"), grid, "brain")
    label, native = finished(item, "native"), item["native_label"]
    assert label.shape == native.shape and torch.allclose(label.affine, native.affine)
    scores = region_scores(as_array(label)[0], as_array(native)[0], (6, 6, 6))
    assert scores["WT"]["dice"] > 0.9 and scores["ET"]["dice"] > 0.75
    assert set(label.unique().tolist()) <= {0, 1, 2, 4}


def test_on_the_training_grid_it_stays_where_it_is(items):
    item = prepared(items[1], [16, 20, 12], "brain")
    label = finished(item, "training")
    assert label.shape == (1, 16, 20, 12) and torch.allclose(label.affine, item["image"].affine)
    values = torch.tensor([0, 1, 2, 4], dtype=torch.uint8)
    assert torch.equal(label.as_tensor(), values[item["label"].as_tensor().long()])


def test_what_is_most_probable_counts_however_probable_it_is(items):
    item = prepared(items[0], None, "brain")
    bold = LogitsToLabeld("native")({**item, "pred": logits(item)})["pred"]
    timid = LogitsToLabeld("native")({**item, "pred": logits(item) / 1000 - 3})["pred"]
    assert torch.equal(bold.as_tensor(), timid.as_tensor())


def test_an_unknown_grid_is_refused(refused):
    with refused(expected="native", found="'coarse'", where="grid"):
        LogitsToLabeld("coarse")


def segment(items: list[dict], network: torch.nn.Module, output: Path, grid: str, spatial_size=None) -> list[Path]:
    """As inference.json does it."""
    writer = SegmentationWriter(output)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(
            Dataset(items, Compose(preprocessing(spatial_size, "brain", label=False))), batch_size=1
        ),
        network=network,
        postprocessing=LogitsToLabeld(grid),
        val_handlers=[writer],
    ).run()
    return writer.written


def test_written_files_have_the_inputs_geometry_and_the_truth(items, oracle, tmp_path, capsys):
    written = segment(items, oracle(items, None, "brain"), tmp_path, "native")
    assert [path.name for path in written] == [f"{item['subject']}_seg.nii.gz" for item in items]
    for path, item in zip(written, items, strict=True):
        made, image, label = (nib.load(name) for name in (path, item["image"][0], item["label"]))
        assert path.parent == tmp_path / "segmentations" and made.shape == image.shape
        assert np.array_equal(made.affine, image.affine) and made.get_data_dtype() == np.uint8
        for field in ("qform_code", "sform_code", "xyzt_units"):
            assert made.header[field] == image.header[field]
        assert np.array_equal(np.asarray(made.dataobj), np.asarray(label.dataobj))
    assert f"3 labels in {tmp_path / 'segmentations'}" in capsys.readouterr().out


def test_files_on_the_training_grid_lie_in_the_same_place(items, oracle, tmp_path):
    network = oracle(items[:1], [16, 16, 16], "brain")
    (path,) = segment(items[:1], network, tmp_path, "training", [16, 16, 16])
    made, label = nib.load(path), nib.load(items[0]["label"])
    assert made.shape == (16, 16, 16)

    def center(image) -> np.ndarray:
        return nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) > 0).mean(axis=0))

    assert np.linalg.norm(center(made) - center(label)) < 3  # half a native voxel


def test_again_the_same_bytes(items, oracle, tmp_path):
    network = oracle(items[:1], None, "brain")
    one, other = (segment(items[:1], network, tmp_path / name, "native")[0] for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


class Fails(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")


def test_what_goes_wrong_is_passed_on_and_the_progress_bar_closed(items, tmp_path, capfd):
    with pytest.raises(RuntimeError, match="out of memory"):
        segment(items[:1], Fails(), tmp_path, "native")
    assert not tqdm._instances
