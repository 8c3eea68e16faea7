"""Features of 3D images from a trained segmenter: the activations of its deepest level inside the brain.

A network that was trained on the same sequences knows what matters in them, which ImageNet's does not. The images go
the way that the bundle's own do, as far as the network is concerned: each sequence with mean 0 and standard deviation
1 inside the brain and 0 outside. The encoder sees the box around the brain as a whole, not window by window, so
instance norm takes its statistics from more of the brain than in training; the same for all images compared.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn import functional as F

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError, user_error_in
from mrsynth.transforms import NormalizeInsideBraind, bounding_box


class SegmenterEncoder(nn.Module):
    """Called with `(N, 4, X, Y, Z)` in [-1, 1], background exactly -1; returns `(N, D)`, means over the brain.

    Args:
        network: MONAI's DynUNet (bundles/unet3d), of which the bottleneck is taken, or a network with ``pathways`` and
            their ``factors`` (bundles/deepmedic), of which the coarsest pathway's last layer is.

    Raises:
        UserError: another network; when called, volumes of other channels, or one that is nothing but background or
            flat in a sequence.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.normalize = NormalizeInsideBraind()
        self.margin, self.sampling = 0, 1
        if isinstance(network, DynUNet):
            self.layer = "bottleneck"
            self.encoder: Any = nn.Sequential(network.input_block, *network.downsamples, network.bottleneck)
            self.step = 2 ** (len(network.strides) - 1)
            self.dimensions = int(network.filters[-1])
        elif isinstance(getattr(network, "pathways", None), nn.ModuleList):
            self.layer = "last layer of the coarsest pathway"
            self.encoder = network.pathways[-1]
            self.step = self.sampling = int(network.factors[-1])
            self.margin = len(self.encoder.layers)  # valid convolutions: a voxel less at each side for each
            self.dimensions = int(self.encoder.layers[-1].convolution.out_channels)
        else:
            raise UserError(
                "a segmenter whose deepest level is known: MONAI's DynUNet, or DeepMedic",
                type(network).__name__,
                "weights of the features segmenter",
                "give the model.pt of bundles/unet3d or bundles/deepmedic",
            )

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        if volumes.shape[1] != len(SEQUENCES):
            raise UserError(f"volumes of {SEQUENCES}", f"{volumes.shape[1]} channels", "images", "give all four")
        return torch.stack([self._mean_over_brain(volume) for volume in volumes])

    def _mean_over_brain(self, volume: torch.Tensor) -> torch.Tensor:
        """Features `(D,)` of one volume `(4, X, Y, Z)`."""
        brain = (volume > -1).any(dim=0)
        if not brain.any():
            raise UserError(
                "volumes with a brain: background is exactly -1, and not everywhere",
                "a volume that is nothing but background",
                "images",
                "remove this volume from the set",
            )
        low, high = bounding_box(brain.cpu().numpy())
        box = (slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))
        item: dict[Hashable, Any] = {
            "image": MetaTensor(volume[box].cpu()),
            "brain": MetaTensor(brain[None][box].cpu()),
        }
        image = self.normalize(item)["image"].as_tensor().to(volume.device)
        share = F.avg_pool3d(self._to_steps(brain[None][box].float()), self.step)
        activations = self.activations(self._to_steps(image)[None])[0]
        return (activations * share).sum(dim=(1, 2, 3)) / share.sum()

    def activations(self, image: torch.Tensor) -> torch.Tensor:
        """The level's maps `(1, D, X / step, Y / step, Z / step)` of `(1, 4, X, Y, Z)`, sides multiples of ``step``."""
        first, every = self.sampling // 2, self.sampling
        sampled = image[:, :, first::every, first::every, first::every]
        return self.encoder(F.pad(sampled, [self.margin] * 6))

    def _to_steps(self, image: torch.Tensor) -> torch.Tensor:
        """Zeros behind each side, up to a multiple of ``step``, and two of them at least (instance norm needs that)."""
        sides = [max(2, -(-side // self.step)) * self.step - side for side in reversed(image.shape[1:])]
        return F.pad(image, [amount for side in sides for amount in (0, side)])


def load_encoder(weights: str | os.PathLike, bundle: str | os.PathLike | None = None) -> tuple[SegmenterEncoder, str]:
    """The encoder of trained weights, built as the bundle's own ``inference.json`` says.

    Args:
        weights: ``models/model.pt``, with the ``model.json`` that belongs to it.
        bundle: folder of the bundle; the one that the weights lie in unless given.

    Returns:
        The encoder, in evaluation, and the name of the bundle with the beginning of the weights' SHA-256.

    Raises:
        UserError: no bundle, no weights or no record of them, or another kind of network.
    """
    weights = Path(weights).resolve()
    root = Path(bundle).resolve() if bundle is not None else weights.parent.parent
    config = root / "configs" / "inference.json"
    if not config.is_file():
        raise UserError(
            "weights in a bundle's models folder, or the bundle's folder beside them",
            "no configs/inference.json",
            root,
            "give weights=<bundle>/models/model.pt, or bundle=<bundle> for weights of another folder",
        )
    parser = ConfigParser(ConfigParser.load_config_files([str(config)]))
    parser["weights"], parser["device"] = str(weights), "cpu"
    try:
        with _importable(root):
            network = parser.get_parsed_content("network_def")
            record = parser.get_parsed_content("record")
    except Exception as error:  # MONAI wraps what goes wrong inside a config
        plain = user_error_in(error)
        if plain is None:
            raise
        raise plain from error
    return SegmenterEncoder(network).eval(), f"{root.name} {record['sha256'][:8]}"


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """Make ``scripts`` the package of the bundle at ``root``; the former package is restored afterwards."""

    def take_away() -> dict:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "scripts"}

    before = take_away()
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        take_away()
        sys.modules.update(before)
