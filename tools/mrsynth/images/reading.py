"""Images from disk, whoever made them: a folder of pictures, stacks of synthetic images, or the slices of subjects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose
from PIL import Image, UnidentifiedImageError
from torch.nn import functional as F

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.images.cutting import CutSlicesd
from mrsynth.images.stacks import ImageDataset, slice_stacks
from mrsynth.manifest import load_datalist
from mrsynth.manifest.splits import natural
from mrsynth.metrics.realism import Images
from mrsynth.training import SeededDataset
from mrsynth.transforms import BrainMaskd, LoadSubjectd, RescaleInsideBraind, read_volume

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Files of one image each: 8 bits a channel, black to white is -1 to 1."""

STACK = ".nii.gz"
"""Files of many: as :class:`~mrsynth.images.ImageWriter` writes them."""


class ImageFiles:
    """The images of files, read when asked for: float32 `(C, H, W)` in [-1, 1].

    Args:
        files: pictures; ``.npy`` arrays `(H, W)`, `(C, H, W)` or `(N, C, H, W)`, and stacks, in [-1, 1].
        size: rows and columns to resize to; None: as they are, all equal.

    Raises:
        UserError: a file that is none of these, values beyond [-1, 1], or sizes that differ.
    """

    def __init__(self, files: Sequence[Path], size: Sequence[int] | None = None) -> None:
        self.size = None if size is None else tuple(size)
        self.where = [(file, row) for file in files for row in range(_count(file))]
        shapes: dict[tuple[int, ...], Path] = {}
        for file in files:
            shapes.setdefault(_shape(file), file)
        channels = {shape[0] for shape in shapes}
        if len(shapes) > 1 and (self.size is None or len(channels) > 1):
            raise UserError(
                "images of one size and one number of channels",
                ", ".join(f"{shape} in {file.name}" for shape, file in list(shapes.items())[:4]),
                next(iter(shapes.values())).parent,
                "resize them (--size [H,W]), or separate them",
            )

    def __len__(self) -> int:
        return len(self.where)

    def __getitem__(self, index: int) -> torch.Tensor:
        file, row = self.where[index]
        image = torch.from_numpy(np.array(_load(file)[row], dtype=np.float32))
        if self.size is not None and image.shape[1:] != self.size:
            shrinks = any(new < old for new, old in zip(self.size, image.shape[1:], strict=True))
            image = F.interpolate(image[None], self.size, mode="bilinear", antialias=shrinks)[0]
        return image.clamp(-1, 1)


def read_images(
    source: str | os.PathLike,
    size: Sequence[int] | None = None,
    sequences: Sequence[str] = SEQUENCES,
    plane: str = "axial",
    least_brain: float = 0.25,
) -> Images:
    """The images of ``source``, by number: float32 `(C, H, W)` in [-1, 1].

    Args:
        source: a folder of pictures, arrays or stacks (also in folders below it); or a datalist, of stacks, or of
            subjects, whose slices are cut once into the cache.
        size: rows and columns to resize to; slices of subjects need it.
        sequences, plane, least_brain: of the slices; see :class:`~mrsynth.images.CutSlicesd`.

    Raises:
        UserError: nothing there, or as :class:`ImageFiles`.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted((file for file in path.rglob("*") if _kind(file)), key=lambda file: natural(str(file)))
        # a stack's own picture is not another image
        files = [file for file in files if not (file.suffix == ".png" and file.with_suffix(STACK).is_file())]
        if not files:
            raise UserError(
                f"images: {', '.join((*PICTURES, '.npy', STACK))}", "none", path, "give the folder that holds them"
            )
        return ImageFiles(files, size)
    parts = load_datalist(path)
    items = [item for section in parts.values() for item in section]
    if not items:
        raise UserError("subjects or stacks in the datalist", "none", path, "give another datalist")
    if all("images" in item for item in items):
        return ImageFiles([Path(item["image"]) for item in items], size)
    if size is None:
        raise UserError("a size for the slices of subjects", "none", "size", "give for instance --size [128,128]")
    cut = CutSlicesd(plane, None, size, sequences, least_brain=least_brain)
    prepared = Compose([LoadSubjectd(allow_missing_keys=True), BrainMaskd(), RescaleInsideBraind(), cut])
    subjects = SeededDataset(items, prepared, cache="disk")
    cut_items = (subjects[number] for number in range(len(subjects)))
    return SlicesOf(ImageDataset(slice_stacks(cut_items, sequences, pooled=False)))


class SlicesOf:
    """The images alone of an :class:`~mrsynth.images.ImageDataset`."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.dataset[index]["image"]


def _kind(file: Path) -> str | None:
    if file.name.startswith(".") or not file.is_file():
        return None
    if file.name.endswith(STACK):
        return STACK
    return file.suffix.lower() if file.suffix.lower() in (*PICTURES, ".npy") else None


@lru_cache(maxsize=4)
def _load(file: Path) -> np.ndarray:
    """All images of a file, `(N, C, H, W)`."""
    kind = _kind(file)
    if kind == STACK:
        found = read_volume(file)[0]
        stack = found[..., None] if found.ndim == 3 else found
        images = stack.transpose(2, 3, 1, 0)
    elif kind == ".npy":
        try:
            found = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError("an array of numbers (.npy)", str(error), file, "write it anew with numpy.save") from error
        images = found.reshape((1,) * (4 - found.ndim) + found.shape) if found.ndim < 4 else found
    else:
        try:
            with Image.open(file) as picture:
                colours = picture.convert("L" if picture.mode in ("L", "1", "I;16", "I", "F", "LA") else "RGB")
                pixels = np.asarray(colours, dtype=np.float32) / 127.5 - 1
        except (OSError, UnidentifiedImageError) as error:
            raise UserError("a picture", f"{error}", file, "fetch it again, or take it away") from error
        images = (pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))[None]
    if images.ndim != 4 or not len(images):
        raise UserError("images (N, C, H, W)", str(images.shape), file, "see python -m mrsynth compare --help")
    if kind in (STACK, ".npy") and not (np.isfinite(images).all() and np.abs(images).max() <= 1 + 1e-3):
        raise UserError(
            "values in [-1, 1]",
            f"values from {images.min():.4g} to {images.max():.4g}",
            file,
            "scale them so, or give subjects by a datalist",
        )
    return images


@lru_cache(maxsize=100_000)
def _count(file: Path) -> int:
    return len(_load(file))


@lru_cache(maxsize=100_000)
def _shape(file: Path) -> tuple[int, ...]:
    return tuple(_load(file).shape[1:])
