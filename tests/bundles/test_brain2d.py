"""brain2d with classes: images of the sequence, with or without tumor, that one asks for."""

from __future__ import annotations

import json

import nibabel as nib
import pytest

SMALL = {"slices": [36, 113], "batch_size": 8, "width": 0.05, "latent_size": 4, "max_epochs": 1, "montage_every": 2}
SMALL |= {"validate_every": 0, "device": "cpu"}


@pytest.mark.slow
def test_images_of_the_class_that_is_asked_for(subjects_dir, bundle_workflow, tmp_path):
    given = {"dataset_dir": str(subjects_dir), "output_dir": str(tmp_path), "condition": "both"}
    given |= {"sequences": ["t1ce", "flair"], **SMALL}
    with bundle_workflow("brain2d", "train", **given) as made:
        made.run()
    wanted = {"count": 3, "only": ["flair, tumor"], "output_dir": str(tmp_path), "device": "cpu"}
    with bundle_workflow("brain2d", "inference", **wanted) as made:
        made.run()
    (item,) = json.loads((tmp_path / "synthetic" / "datalist.json").read_text())["training"]
    assert item["class"] == "flair, tumor" and nib.load(tmp_path / "synthetic" / item["image"]).shape == (64, 64, 3)
