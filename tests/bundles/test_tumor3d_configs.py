"""tumor3d's training configs, run: the thesis's overlay, and what a user may combine at the top of train.json."""

from __future__ import annotations

import json

import pytest
import torch

from mrsynth.files import sha256

PAPER = ("train", "paper")
SMALL = {"feature_maps": 4, "discriminator_feature_maps": 4, "max_epochs": 1, "device": "cpu", "amp": "none"}


def thesis(bundle_workflow, **options):
    return bundle_workflow("tumor3d", PAPER, **options)


def test_the_thesis_overlay_says_what_the_thesis_says(bundle_workflow, tmp_path, tiny_run):
    options = {"output_dir": str(tmp_path), "dataset_dir": str(tiny_run.dataset), "device": "cpu"}
    with thesis(bundle_workflow, **options) as run:
        values = {
            key: run.parser.get_parsed_content(key) for key in ("spatial_size", "crop", "max_epochs", "condition")
        }
        assert values == {"spatial_size": [240, 240, 64], "crop": [30, 125], "max_epochs": 1280, "condition": "mask"}
        generator, discriminator = (run.parser.get_parsed_content(key) for key in ("network_def", "discriminator_def"))
        assert sum(p.numel() for p in generator.parameters()) == pytest.approx(16.3e6, rel=0.01)
        assert sum(p.numel() for p in discriminator.parameters()) == pytest.approx(7.0e6, rel=0.01)
        for network in (generator, discriminator):
            assert any("parametrizations" in name for name, _ in network.named_parameters())
        for key, kind in {"objective": "LeastSquares", "schedule": "Alternating", "round": "TransplantRound"}.items():
            assert type(run.parser.get_parsed_content(key)).__name__ == kind
        assert run.parser.get_parsed_content("terms") == []
        split = run.parser.get_parsed_content("split")
        assert round(split["test"] * 369) == 73 and split["validation"] == 0
        # 148 iterations an epoch, half of them each player's
        assert 1280 * (296 // 2) // 2 == 94720


def test_the_thesis_overlay_trains(bundle_workflow, tmp_path, tiny_run):
    options = {
        **SMALL,
        "output_dir": str(tmp_path),
        "dataset_dir": str(tiny_run.dataset),
        "spatial_size": [16, 16, 16],
        "crop": "none",
        "max_epochs": 2,
        "split": {"seed": 0, "validation": 0, "test": 1},
    }
    with thesis(bundle_workflow, **options) as run:
        run.run()
    content = torch.load(tmp_path / "models" / "checkpoint.pt", weights_only=True)
    assert content["run"]["epoch"] == 2
    # the folded weights know nothing of the normalization that they were trained with
    assert not any(
        "parametrizations" in name for name in torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    )
    record = json.loads((tmp_path / "models" / "model.json").read_text())[sha256(tmp_path / "models" / "model.pt")]
    assert record["settings"]["label_encoding"] == "values" and len(record["subjects"]) >= 2
    assert (tmp_path / "logs" / "curves.png").is_file()


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2, "accumulation": 2, "cache": "disk"},
        {"generator": "unet", "condition": "mask", "spectral_norm": "both", "checkpointing": True, "cache": "none"},
        {"crop": "none", "interpolation": "nearest", "intensities": "minmax", "align": False, "min_kept": 0.0},
    ],
    ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()),
)
def test_what_a_user_may_combine_trains(bundle_workflow, tmp_path, tiny_run, options):
    options = {
        **SMALL,
        "output_dir": str(tmp_path),
        "dataset_dir": str(tiny_run.dataset),
        "spatial_size": [16, 16, 16],
        **options,
    }
    with bundle_workflow("tumor3d", "train", **options) as run:
        run.run()
    assert (tmp_path / "models" / "model.pt").is_file()
