"""Inception-v3 (Szegedy 2016, "Rethinking the Inception Architecture for Computer Vision") down to its pool3 features.

Two networks of this shape are in use, and their features are not the same. The one that published FIDs stand on is
TensorFlow's of 2015-12-05, ported to PyTorch: its average pooling leaves the padding out of the mean, its last block
takes the maximum where the paper takes the mean, and it has 1008 classes. The other one is torchvision's. Modules are
named as in both files of weights, so that these load as they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from mrsynth.errors import UserError
from mrsynth.files import sha256
from mrsynth.training.checkpoint import read_safely, require_same_network

DIMENSIONS = 2048
"""Of the pool3 features."""

SIZE = 299
"""Side of the image that the network was trained on."""

CLASSES = {"fid": 1008, "torchvision": 1000}
"""The two variants, and how many classes each tells apart."""

KNOWN_WEIGHTS = {"6726825d": "fid", "0cc3c7bd": "torchvision", "1a9a5a14": "torchvision"}
"""Variant by the first eight digits of the file's SHA-256, which its publisher put into its name:
``pt_inception-2015-12-05-6726825d.pth`` (pytorch-fid), ``inception_v3_google-0cc3c7bd.pth`` and, before 2021,
``inception_v3_google-1a9a5a14.pth`` (torchvision)."""

Kernel = int | tuple[int, int]
Step = tuple[int, Kernel] | tuple[int, Kernel, int] | list[tuple[int, Kernel]]
"""A convolution of a branch: maps, kernel and, where it is not 1, stride; a list is a fork, its ends side by side."""

WIDE: Kernel = (1, 7)
TALL: Kernel = (7, 1)


def _thirty_five() -> dict[str, list[Step]]:
    """Branches of the blocks on the grid of 35 x 35."""
    return {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }


def _to_seventeen() -> dict[str, list[Step]]:
    """Branches of the block that halves the grid to 17 x 17."""
    return {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)]}


def _seventeen(maps: int) -> dict[str, list[Step]]:
    """Branches of the blocks on the grid of 17 x 17, where 7 x 7 kernels are made of 1 x 7 and 7 x 1."""
    return {
        "branch1x1": [(192, 1)],
        "branch7x7": [(maps, 1), (maps, WIDE), (192, TALL)],
        "branch7x7dbl": [(maps, 1), (maps, TALL), (maps, WIDE), (maps, TALL), (192, WIDE)],
    }


def _to_eight() -> dict[str, list[Step]]:
    """Branches of the block that halves the grid to 8 x 8."""
    return {
        "branch3x3": [(192, 1), (320, 3, 2)],
        "branch7x7x3": [(192, 1), (192, WIDE), (192, TALL), (192, 3, 2)],
    }


def _eight() -> dict[str, list[Step]]:
    """Branches of the blocks on the grid of 8 x 8; two of them end in a fork."""
    fork: Step = [(384, (1, 3)), (384, (3, 1))]
    return {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1), fork],
        "branch3x3dbl": [(448, 1), (384, 3), fork],
    }


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU; a stride of 1 keeps the grid unless ``padded`` is False."""

    def __init__(self, inputs: int, maps: int, kernel: Kernel, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, maps, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(maps, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, their maps one after another; the last branch pools.

    A branch's convolutions are numbered from 1, the ends of a fork lettered besides; a lone one has the branch's name.

    Args:
        inputs: maps that come in.
        branches: the steps of each.
        pool: of the last branch.
        pooled_maps: of the convolution behind the pool; None for a pool alone.
    """

    def __init__(
        self, inputs: int, branches: Mapping[str, Sequence[Step]], pool: nn.Module, pooled_maps: int | None = None
    ) -> None:
        super().__init__()
        self.branches: list[list[list[str]]] = []
        for branch, steps in branches.items():
            names, maps = [], inputs
            for number, step in enumerate(steps, 1):
                ends = step if isinstance(step, list) else [step]
                name = f"{branch}_{number}" if len(steps) > 1 else branch
                names.append([name + letter for letter in ("ab" if len(ends) > 1 else [""])])
                for end, convolution in zip(names[-1], ends, strict=True):
                    self.add_module(end, Convolution(maps, *convolution))
                maps = ends[0][0]
            self.branches.append(names)
        self.pool = pool
        self.branch_pool = Convolution(inputs, pooled_maps, 1) if pooled_maps else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = []
        for steps in self.branches:
            y = x
            for ends in steps:
                y = torch.cat([self.get_submodule(end)(y) for end in ends], dim=1)
            parts.append(y)
        return torch.cat([*parts, self.branch_pool(self.pool(x))], dim=1)


class InceptionV3(nn.Module):
    """Called with `(N, 3, 299, 299)` in [-1, 1]; returns pool3 `(N, 2048)`. Other sides from 75 on work too.

    Args:
        variant: ``fid`` or ``torchvision``, see the module.

    Raises:
        UserError: another variant.
    """

    def __init__(self, variant: str = "fid") -> None:
        super().__init__()
        if variant not in CLASSES:
            raise UserError(f"one of {list(CLASSES)}", repr(variant), "variant of Inception-v3", "give variant='fid'")
        tensorflow = variant == "fid"
        mean = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=not tensorflow)
        # the comments give what comes out of each line
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2)  # 32 x 149 x 149
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, padded=False)  # 32 x 147 x 147
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)  # 64 x 147 x 147
        self.maxpool1 = nn.MaxPool2d(3, stride=2)  # 64 x 73 x 73
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)  # 80 x 73 x 73
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, padded=False)  # 192 x 71 x 71
        self.maxpool2 = nn.MaxPool2d(3, stride=2)  # 192 x 35 x 35
        self.Mixed_5b = Mixed(192, _thirty_five(), mean, 32)  # 256 x 35 x 35
        self.Mixed_5c = Mixed(256, _thirty_five(), mean, 64)  # 288 x 35 x 35
        self.Mixed_5d = Mixed(288, _thirty_five(), mean, 64)  # 288 x 35 x 35
        self.Mixed_6a = Mixed(288, _to_seventeen(), nn.MaxPool2d(3, stride=2))  # 768 x 17 x 17
        self.Mixed_6b = Mixed(768, _seventeen(128), mean, 192)  # 768 x 17 x 17
        self.Mixed_6c = Mixed(768, _seventeen(160), mean, 192)  # 768 x 17 x 17
        self.Mixed_6d = Mixed(768, _seventeen(160), mean, 192)  # 768 x 17 x 17
        self.Mixed_6e = Mixed(768, _seventeen(192), mean, 192)  # 768 x 17 x 17
        self.Mixed_7a = Mixed(768, _to_eight(), nn.MaxPool2d(3, stride=2))  # 1280 x 8 x 8
        self.Mixed_7b = Mixed(1280, _eight(), mean, 192)  # 2048 x 8 x 8
        last = nn.MaxPool2d(3, stride=1, padding=1) if tensorflow else mean
        self.Mixed_7c = Mixed(2048, _eight(), last, 192)  # 2048 x 8 x 8
        self.avgpool = nn.AdaptiveAvgPool2d(1)  # 2048 x 1 x 1: pool3
        self.fc = nn.Linear(DIMENSIONS, CLASSES[variant])  # part of the weights, not of the features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, module in self.named_children():
            if name != "fc":
                x = module(x)
        return x.flatten(1)


def load_inception(path: str | os.PathLike, known: Mapping[str, str] = KNOWN_WEIGHTS) -> tuple[InceptionV3, str, str]:
    """The network with the weights of a local file. Nothing is downloaded, and no code in the file is run.

    Args:
        path: one of the files in :data:`KNOWN_WEIGHTS`, under whatever name.
        known: variant by the beginning of the file's SHA-256.

    Returns:
        The network, in evaluation; its variant; the file's SHA-256.

    Raises:
        UserError: no such file, none of the known ones, damaged, or weights of another network.
    """
    do = f"fetch a file whose SHA-256 begins with {', '.join(known)}; see mrsynth.metrics.inception"
    if not os.path.isfile(path):
        raise UserError("a local file of Inception-v3 weights", "no such file", path, do)
    digest = sha256(path)
    variant = next((kind for beginning, kind in known.items() if digest.startswith(beginning)), None)
    if variant is None:
        raise UserError(f"a file whose SHA-256 begins with {', '.join(known)}", digest, path, do)
    content = read_safely(path, do)
    state = _without_the_rest(content) if isinstance(content, Mapping) else content
    network = InceptionV3(variant)
    require_same_network(_without_the_rest(network.state_dict()), state, path, f"Inception-v3 ({variant})", do)
    network.load_state_dict(state, strict=False)
    return network.eval(), variant, digest


def _without_the_rest(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the auxiliary classifier, which only training uses, and batch norm's counters, which old files lack."""
    return {
        name: value
        for name, value in state.items()
        if not name.startswith("AuxLogits.") and not name.endswith(".num_batches_tracked")
    }
