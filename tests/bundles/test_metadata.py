"""Every bundle's metadata.json, checked offline, and the two checks of MONAI's own bundle command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch

BUNDLES = sorted(path for path in (Path(__file__).resolve().parents[2] / "bundles").iterdir() if path.is_dir())

TENSORS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "required": [
            "type",
            "format",
            "num_channels",
            "spatial_shape",
            "dtype",
            "value_range",
            "is_patch_data",
            "channel_def",
        ],
        "properties": {
            "type": {"type": "string"},
            "format": {"type": "string"},
            "modality": {"type": "string"},
            "num_channels": {"type": "integer", "minimum": 1},
            "spatial_shape": {"type": "array", "items": {"type": ["integer", "string"]}},
            "dtype": {"enum": ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"]},
            "value_range": {"type": "array", "items": {"type": "number"}},
            "is_patch_data": {"type": "boolean"},
            "channel_def": {
                "type": "object",
                "patternProperties": {"^[0-9]+$": {"type": "string"}},
                "additionalProperties": False,
            },
        },
    },
}
VERSION = {"type": "string", "pattern": r"^[0-9]+\.[0-9]+(\.[0-9]+.*)?$"}
TEXT = {"type": "string", "minLength": 1}
# what the bundle specification's schema of 2024-07-25 asks for, in our words
SCHEMA = {
    "type": "object",
    "required": [
        "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version",
        "required_packages_version", "name", "task", "description", "authors", "copyright", "network_data_format",
    ],
    "properties": {
        "schema": {"type": "string", "pattern": "meta_schema_20240725.json$"},
        "version": VERSION,
        "changelog": {"type": "object", "minProperties": 1, "additionalProperties": TEXT},
        "monai_version": VERSION,
        "pytorch_version": VERSION,
        "numpy_version": VERSION,
        "required_packages_version": {"type": "object", "additionalProperties": VERSION},
        "name": TEXT, "task": TEXT, "description": TEXT, "authors": TEXT, "copyright": TEXT, "intended_use": TEXT,
        "network_data_format": {
            "type": "object", "required": ["inputs", "outputs"], "properties": {"inputs": TENSORS, "outputs": TENSORS},
        },
    },
    "not": {"required": ["optional_packages_version"]},
}  # fmt: skip


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request) -> Path:
    return request.param


def test_metadata_is_complete(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    jsonschema.validate(metadata, SCHEMA)
    assert metadata["name"] == bundle.name
    assert metadata["version"] in metadata["changelog"]
    for side in metadata["network_data_format"].values():
        for tensor in side.values():
            numbers = [int(number) for number in tensor["channel_def"]]
            if tensor["format"] == "latent":  # one entry for all channels of noise
                assert numbers[0] == 0 and numbers == sorted(set(numbers)) and numbers[-1] < tensor["num_channels"]
            else:
                assert numbers == list(range(tensor["num_channels"]))
    formats = metadata["network_data_format"]
    assert list(formats["inputs"]) == ["image"] and list(formats["outputs"]) == ["pred"]


def test_the_files_of_a_bundle_are_there(bundle):
    for name in ("LICENSE", "docs/README.md", "docs/data_license.txt", "configs/train.json", "configs/inference.json"):
        assert (bundle / name).is_file(), name


def test_the_page_of_a_bundle_shows_pictures_that_are_there(bundle):
    page = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert pictures
    for name in pictures:
        assert (bundle / "docs" / name).stat().st_size > 10_000, name


def monai_bundle(bundle: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments], cwd=bundle, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    return ended.stdout


FILES = ("--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json")


@pytest.mark.slow
def test_the_network_takes_and_gives_what_metadata_says(bundle):
    monai_bundle(bundle, "verify_net_in_out", "network_def", *FILES)


def exported(bundle: Path, weights: Path, folder: Path) -> torch.jit.ScriptModule:
    """The network of ``weights`` as TorchScript, made by MONAI's command."""
    file = folder / "model.ts"
    monai_bundle(
        bundle, "ckpt_export", "network_def", "--filepath", str(file), "--ckpt_file", str(weights), *FILES,
        "--weights", str(weights),
    )  # fmt: skip
    return torch.jit.load(str(file))


def bundle_named(name: str) -> Path:
    (found,) = (path for path in BUNDLES if path.name == name)
    return found


@pytest.mark.slow
def test_weights_of_a_run_export_to_torchscript(tiny_run, tmp_path):
    network = exported(bundle_named("tumor3d"), tiny_run.output / "models" / "model.pt", tmp_path)
    label = torch.zeros(1, 7, 16, 16, 16)
    label[:, 1] = 1
    assert network(label).shape == (1, 4, 16, 16, 16)


@pytest.mark.slow
def test_weights_of_a_segmenter_export_to_torchscript(segmenter, bundle_workflow, tmp_path):
    network = exported(bundle_named(segmenter.name), segmenter.weights, tmp_path)
    with bundle_workflow(segmenter.name, "inference", **segmenter.run.options) as made:
        original = made.network_def
        original.load_state_dict(torch.load(segmenter.weights, weights_only=True))
    metadata = json.loads((bundle_named(segmenter.name) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    image = torch.rand(1, 4, *metadata["network_data_format"]["inputs"]["image"]["spatial_shape"])
    with torch.no_grad():
        assert torch.allclose(network(image), original.eval()(image), atol=1e-5)
