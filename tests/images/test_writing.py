"""Stacks of synthetic images on disk."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.image import imread

from mrsynth.images import ImageWriter, LatentDataset, sheet
from mrsynth.manifest import check_lineage, load_datalist

RECORD = {"sha256": "ab" * 32, "subjects": ["A", "B"], "version": "0", "epoch": 3}


def writer(folder, **changes) -> ImageWriter:
    settings = {"seed": 1, "count": 5, "classes": ["no tumor", "tumor"], "channels": ["MRI"], "stack": 3} | changes
    return ImageWriter(folder, RECORD, {"size": [8, 8]}, **settings)


def make(into: ImageWriter, stop_after: int | None = None) -> None:
    """Play the evaluator: image ``number`` is number / 10 everywhere but at row 1, column 2."""
    data = LatentDataset(4, into.count, len(into.classes), 1, into.complete())
    engine = Engine(lambda e, batch: batch)
    into.attach(engine)

    def step(e, index):
        image = torch.full((len(into.channels), 8, 8), data[index]["number"] / 10)
        image[:, 1, 2] = -1
        return [{"pred": image}]

    engine._process_function = step
    engine.run(range(len(data))[:stop_after])


def test_stacks_hold_one_class_each_in_order_upright_with_their_descent(tmp_path, capsys):
    made = writer(tmp_path)
    make(made)
    datalist = made.finish()
    assert [item["images"] for item in datalist["training"]] == [3, 2, 3, 2]
    assert [item["class"] for item in datalist["training"]] == ["no tumor"] * 2 + ["tumor"] * 2
    items = load_datalist(tmp_path / "synthetic" / "datalist.json")["training"]
    voxels = nib.load(items[1]["image"]).get_fdata()
    assert voxels.shape == (8, 8, 2) and np.allclose(voxels[0, 0], [0.3, 0.4])
    assert (voxels[2, 1] == -1).all()  # column 2, row 1
    sidecar = json.loads((tmp_path / "synthetic" / f"{items[1]['subject']}.json").read_text())
    assert sidecar["numbers"] == [3, 4] and sidecar["training_subjects"] == ["A", "B"] and sidecar["synthetic"]
    assert imread(tmp_path / "synthetic" / f"{items[0]['subject']}.png").std() > 0.01
    assert "10" in capsys.readouterr().out


def test_its_images_may_not_stand_beside_a_test_subject_they_descend_from(tmp_path, refused):
    made = writer(tmp_path)
    make(made)
    items = made.finish()["training"]
    with refused(found="A"):
        check_lineage({"training": items, "validation": [], "test": [{"subject": "A", "image": "a"}]})


def test_what_was_interrupted_goes_on_to_the_same_bytes(tmp_path):
    whole, parts = writer(tmp_path / "whole"), writer(tmp_path / "parts")
    make(whole)
    make(parts, stop_after=4)
    (tmp_path / "parts" / "synthetic" / ".tmp-left").write_text("half")
    again = writer(tmp_path / "parts")
    assert again.complete() == {0, 1, 2}
    make(again)
    for made in (whole, again):
        made.finish()
    files = sorted(p.name for p in (tmp_path / "whole" / "synthetic").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "parts" / "synthetic").iterdir())
    for name in files:
        if name != "datalist.json":
            one, other = (tmp_path / which / "synthetic" / name for which in ("whole", "parts"))
            assert one.read_bytes() == other.read_bytes()


def test_a_folder_of_other_weights_or_seed_is_refused(tmp_path, refused):
    make(writer(tmp_path))
    with refused(found="seed 1 instead of 2"):
        writer(tmp_path, seed=2).complete()


@pytest.mark.parametrize("channels", [["MRI"], ["t2", "pre", "post"]])
def test_a_sheet_shows_images_in_rows_and_channels_in_columns(channels, tmp_path):
    images = torch.linspace(-1, 1, 4 * len(channels) * 64).reshape(4, len(channels), 8, 8)
    made = sheet([("real", images), ("synthetic", images)], channels)
    mosaic = made.save(tmp_path / "sheet.png", "epoch 1")
    tile = 96 + 2
    assert mosaic.shape == ((2 * tile, 4 * tile, 3) if len(channels) == 1 else (8 * tile, 3 * tile, 3))
    assert mosaic.min() == 0 and mosaic.max() <= 1
    assert imread(tmp_path / "sheet.png").std() > 0.05


def test_a_folder_can_be_filled_class_by_class(tmp_path, refused):
    whole, parts = writer(tmp_path / "whole"), tmp_path / "parts"
    make(whole)
    expected = whole.finish()["training"]
    for number, name in enumerate(["tumor", "no tumor"], start=1):
        made = writer(parts, only=[name])
        make(made)
        assert len(made.finish()["training"]) == 2 * number
    names = {path.name for path in (tmp_path / "whole" / "synthetic").iterdir()}
    assert names == {path.name for path in (parts / "synthetic").iterdir()}
    for item in expected:
        file = f"{item['subject']}.nii.gz"
        assert (parts / "synthetic" / file).read_bytes() == (tmp_path / "whole" / "synthetic" / file).read_bytes()
    with refused(expected="'no tumor', 'tumor'", found="cyst", where="only"):
        writer(tmp_path / "other", only=["cyst"])
