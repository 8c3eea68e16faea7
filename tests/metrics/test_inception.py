"""Inception-v3 is the published one, by names, shapes and numbers, and takes none but the files it knows."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mrsynth.files import sha256
from mrsynth.metrics.inception import CLASSES, KNOWN_WEIGHTS, InceptionV3, load_inception

PUBLISHED_PARAMETERS = {"torchvision": 23_834_568, "fid": 23_834_568 + 8 * 2049}
"""torchvision's without the auxiliary classifier; the FID file has eight classes more."""

PUBLISHED_NAMES = {
    "Mixed_5b": ["1x1", "5x5_1", "5x5_2", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3", "_pool"],
    "Mixed_6a": ["3x3", "3x3dbl_1", "3x3dbl_2", "3x3dbl_3"],
    "Mixed_6e": ["1x1", *[f"7x7_{n}" for n in (1, 2, 3)], *[f"7x7dbl_{n}" for n in (1, 2, 3, 4, 5)], "_pool"],
    "Mixed_7a": ["3x3_1", "3x3_2", "7x7x3_1", "7x7x3_2", "7x7x3_3", "7x7x3_4"],
    "Mixed_7c": [*["1x1", "3x3_1", "3x3_2a", "3x3_2b"], *[f"3x3dbl_{n}" for n in ("1", "2", "3a", "3b")], "_pool"],
}
"""Branches of one block of each kind, each a convolution of five tensors with values and, in newer files, a counter."""

PUBLISHED_SHAPES = {
    "Conv2d_1a_3x3": (32, 149),
    "Conv2d_2a_3x3": (32, 147),
    "Conv2d_2b_3x3": (64, 147),
    "maxpool1": (64, 73),
    "Conv2d_3b_1x1": (80, 73),
    "Conv2d_4a_3x3": (192, 71),
    "maxpool2": (192, 35),
    "Mixed_5b": (256, 35),
    "Mixed_5c": (288, 35),
    "Mixed_5d": (288, 35),
    "Mixed_6a": (768, 17),
    "Mixed_6b": (768, 17),
    "Mixed_6c": (768, 17),
    "Mixed_6d": (768, 17),
    "Mixed_6e": (768, 17),
    "Mixed_7a": (1280, 8),
    "Mixed_7b": (2048, 8),
    "Mixed_7c": (2048, 8),
    "avgpool": (2048, 1),
}
"""Maps and side of what comes out of each module, in the paper's order (Szegedy 2016, table 1)."""


@pytest.fixture(scope="module")
def networks() -> dict[str, InceptionV3]:
    """Both variants with weights at random."""
    torch.manual_seed(0)
    return {variant: InceptionV3(variant).eval() for variant in CLASSES}


@pytest.mark.parametrize("variant", CLASSES)
def test_parameters_and_names_are_the_published_ones(networks, variant):
    network = networks[variant]
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED_PARAMETERS[variant]
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 94
    assert {"Conv2d_1a_3x3.conv.weight", "Conv2d_4a_3x3.bn.running_var", "fc.weight"} <= set(network.state_dict())
    tensors = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
    for block, branches in PUBLISHED_NAMES.items():
        expected = {f"branch{branch}.{tensor}" for branch in branches for tensor in tensors}
        assert set(getattr(network, block).state_dict()) == expected


@torch.no_grad()
def test_the_image_passes_every_module_with_the_published_shape(networks):
    shapes = {}
    network = networks["fid"]
    hooks = [
        module.register_forward_hook(lambda _, __, y, name=name: shapes.update({name: (y.shape[1], y.shape[3])}))
        for name, module in network.named_children()
    ]
    pool3 = network(torch.rand(1, 3, 299, 299) * 2 - 1)
    for hook in hooks:
        hook.remove()
    assert pool3.shape == (1, 2048)
    assert list(shapes.items()) == list(PUBLISHED_SHAPES.items())


@torch.no_grad()
def test_tensorflow_leaves_the_padding_out_of_the_mean_and_ends_with_a_maximum(networks):
    ones = torch.ones(1, 1, 5, 5)
    for name in ("Mixed_5b", "Mixed_6e", "Mixed_7b"):
        pools = {variant: getattr(networks[variant], name).pool(ones) for variant in CLASSES}
        assert torch.equal(pools["fid"], ones)
        assert pools["torchvision"][0, 0, 0, 0] == pytest.approx(4 / 9)
    spike = torch.zeros(1, 1, 5, 5)
    spike[0, 0, 2, 2] = 9
    last = {variant: networks[variant].Mixed_7c.pool(spike)[0, 0, 1, 1].item() for variant in CLASSES}
    assert last == {"fid": 9, "torchvision": pytest.approx(1)}


def test_another_variant_is_refused(refused):
    with refused(expected="fid", found="'keras'", where="variant"):
        InceptionV3("keras")


@pytest.fixture
def written(networks, tmp_path) -> Callable[..., tuple[Path, dict[str, str]]]:
    """Writes a content as a file of weights; returns its path and a table of known files that it is in."""

    def write(content: object, variant: str = "torchvision") -> tuple[Path, dict[str, str]]:
        path = tmp_path / "weights.pth"
        torch.save(content, path)
        return path, {sha256(path)[:8]: variant}

    return write


@torch.no_grad()
@pytest.mark.parametrize("variant", CLASSES)
def test_a_known_file_gives_its_network(networks, written, variant):
    original = networks[variant]
    state = dict(original.state_dict())
    if variant == "torchvision":  # its file has the classifier that only training uses
        state |= {"AuxLogits.fc.weight": torch.zeros(1000, 768)}
    else:  # and the FID file may lack the counters
        state = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    path, known = written(state, variant)
    network, found, digest = load_inception(path, known)
    assert found == variant and digest == sha256(path) and not network.training
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(network(image), original(image))


def test_the_published_files_are_known():
    assert KNOWN_WEIGHTS["6726825d"] == "fid" and KNOWN_WEIGHTS["0cc3c7bd"] == "torchvision"


def test_no_file_and_a_file_with_a_wrong_hash_are_refused(written, refused, tmp_path):
    with refused(found="no such file", where="nowhere.pth", do="6726825d"):
        load_inception(tmp_path / "nowhere.pth")
    path, _ = written({"fc.weight": torch.zeros(1)})
    with refused(expected="6726825d", found=sha256(path), where="weights.pth", do="fetch"):
        load_inception(path)


def test_another_networks_weights_are_refused(networks, written, refused):
    for content in (nn.Linear(2, 2).state_dict(), [torch.zeros(1)]):
        path, known = written(content)
        with refused(expected="Inception-v3 (torchvision)", found="another network's", where="weights.pth"):
            load_inception(path, known)
    path, known = written(networks["torchvision"].state_dict(), "fid")
    with refused(expected="fc.weight (1008, 2048)", found="fc.weight (1000, 2048)", where="weights.pth"):
        load_inception(path, known)


class Intruder:
    """Something that acts when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


def test_code_in_a_file_is_not_run_and_a_damaged_file_is_refused(refused, tmp_path):
    path = tmp_path / "weights.pth"
    for content in (pickle.dumps(Intruder(tmp_path / "intruded"), protocol=2), b"not a file of weights"):
        path.write_bytes(content)
        with refused(expected="tensors", found="damaged, or holding something else", where="weights.pth"):
            load_inception(path, {sha256(path)[:8]: "fid"})
    assert not (tmp_path / "intruded").exists()
