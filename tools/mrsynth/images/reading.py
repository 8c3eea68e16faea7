"""Images from disk: a folder of pictures, stacks of synthetic images, slices of subjects, or subjects as volumes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.utils import convert_to_tensor
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from mrsynth.conventions import SEQUENCES
from mrsynth.errors import UserError
from mrsynth.files import unwritable
from mrsynth.home import cache_home
from mrsynth.images.cutting import resized, rows_and_columns, slice_preprocessing
from mrsynth.images.stacks import ImageDataset, slice_stacks
from mrsynth.manifest import load_datalist, resolve_datalist
from mrsynth.manifest.splits import natural
from mrsynth.metrics.features import TOLERANCE
from mrsynth.metrics.realism import ImageSequence
from mrsynth.segmentation import preprocessing
from mrsynth.training import SeededDataset
from mrsynth.transforms import RescaleInsideBraind, read_volume

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Files of one image each: 8 bits a channel, black to white is -1 to 1; of more bits, ``value_range`` is."""

STACK = ".nii.gz"
"""Files of many: as :class:`~mrsynth.images.ImageWriter` writes them."""

BATCH = 64
"""Images of a file that are copied at once."""


class ImageFiles:
    """The images of files, float32 `(C, H, W)` in [-1, 1].

    Each file is read once, into a scratch file below the cache folder which has no name and is gone with this object:
    four bytes a value on disk, and in memory no more than one file (of an array, a few of its images).

    Args:
        files: pictures; ``.npy`` arrays `(H, W)`, `(C, H, W)` or `(N, C, H, W)`, and stacks, in [-1, 1].
        size: rows and columns to resize to; None: as they are, all equal.
        value_range: of pictures with more than 8 bits a channel (integers or floats): the values that become -1 and 1.

    Raises:
        UserError: a file that is none of these, values beyond [-1, 1], such a picture without a range or beyond it,
            or sizes that differ; or the cache folder cannot be written.
    """

    def __init__(
        self, files: Sequence[Path], size: Sequence[int] | None = None, value_range: Sequence[float] | None = None
    ) -> None:
        wanted = None if size is None else rows_and_columns(size)
        shape: tuple[int, ...] = ()
        home = cache_home()
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=home) as scratch:
                for file in tqdm(files, desc="images", unit="file", leave=False):
                    for images in np.split(found := _load(file, value_range), range(BATCH, len(found), BATCH)):
                        batch = torch.from_numpy(np.array(images, dtype=np.float32))
                        batch = batch if wanted is None else resized(batch, wanted)
                        scratch.write(batch.clamp(-1, 1).numpy().tobytes())
                    shape = shape or tuple(batch.shape[1:])
                    if shape != batch.shape[1:]:
                        raise UserError(
                            "images of one size and one number of channels",
                            f"{shape} in {files[0].name}, {tuple(batch.shape[1:])} in {file.name}",
                            file.parent,
                            "resize them (--size [H,W]), or separate them",
                        )
                scratch.flush()
                self.images = np.memmap(scratch, np.float32, "r").reshape(-1, *shape)
        except OSError as error:
            raise unwritable(home, error) from error

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.images[index]))


class ImagesOf:
    """The images of a dataset whose items hold one as ``image``."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> torch.Tensor:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return convert_to_tensor(self.dataset[index]["image"], track_meta=False)


def read_images(
    source: str | os.PathLike,
    size: Sequence[int] | None = None,
    sequences: Sequence[str] = SEQUENCES,
    plane: str = "axial",
    least_brain: float = 0.25,
    value_range: Sequence[float] | None = None,
) -> ImageSequence:
    """The images of ``source``, by number: float32 `(C, H, W)` in [-1, 1].

    Args:
        source: a folder of pictures, arrays or stacks (also in folders below it); or a datalist, of stacks, or of
            subjects, whose slices are cut once into the cache.
        size: rows and columns to resize to; slices of subjects need it.
        sequences, plane, least_brain: of the slices; see :class:`~mrsynth.images.CutSlicesd`.
        value_range: of pictures with more than 8 bits; see :class:`ImageFiles`.

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
        return ImageFiles(files, size, value_range)
    items = [item for section in load_datalist(path).values() for item in section]
    if not items:
        raise UserError("subjects or stacks in the datalist", "none", path, "give another datalist")
    if all("images" in item for item in items):
        return ImageFiles([Path(item["image"]) for item in items], size)
    if size is None:
        raise UserError("a size for the slices of subjects", "none", "size", "give for instance --size [128,128]")
    cut = slice_preprocessing(
        label=False, plane=plane, slices=None, size=size, sequences=sequences, least_brain=least_brain
    )
    subjects = SeededDataset(items, cut, cache="disk")
    return ImagesOf(ImageDataset(slice_stacks(subjects, sequences, pooled=False)))


def read_volumes(
    source: str | os.PathLike, size: Sequence[int] | None, crop: str | Sequence[int] = "none"
) -> ImageSequence:
    """The subjects of ``source`` as volumes, by number: float32 `(4, X, Y, Z)` in [-1, 1], background exactly -1.

    They go the segmenters' own way, which is once into the cache: see :func:`mrsynth.segmentation.preprocessing`.

    Args:
        source: a datalist of subjects, or a dataset's folder as published; all sections are taken.
        size: X, Y, Z of the grid; a volume of this size is left on its own.
        crop: what is resampled to ``size``; see :class:`~mrsynth.transforms.CropResampled`.

    Raises:
        UserError: no size, no subjects, or what indexing and reading them raise.
    """
    if size is None:
        raise UserError("a size for volumes", "none", "size", "give X, Y, Z, for instance --size [128,128,96]")
    path = Path(source).expanduser()
    # a folder's index needs no split here
    parts = resolve_datalist(path, validation=0, test=0) if path.is_dir() else load_datalist(path)
    items = [item for section in parts.values() for item in section]
    if not items or any("images" in item for item in items):
        found = "stacks of images" if items else "none"
        raise UserError("subjects in the datalist", found, path, "give another datalist, or features of 2D images")
    steps = [*preprocessing(size, crop, label=False), RescaleInsideBraind()]
    return ImagesOf(SeededDataset(items, steps, cache="disk"))


def _kind(file: Path) -> str | None:
    if file.name.startswith(".") or not file.is_file():
        return None
    if file.name.endswith(STACK):
        return STACK
    return file.suffix.lower() if file.suffix.lower() in (*PICTURES, ".npy") else None


def _load(file: Path, value_range: Sequence[float] | None) -> np.ndarray:
    """All images of a file, `(N, C, H, W)`."""
    if _kind(file) == STACK:
        found = read_volume(file)[0]
        images = (found[..., None] if found.ndim == 3 else found).transpose(2, 3, 1, 0)
    elif _kind(file) == ".npy":
        try:
            found = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError("an array of numbers (.npy)", str(error), file, "write it anew with numpy.save") from error
        images = found.reshape((1,) * (4 - found.ndim) + found.shape) if found.ndim < 4 else found
    else:
        images = _picture(file, value_range)
    if images.ndim != 4 or not len(images):
        raise UserError("images (N, C, H, W)", str(images.shape), file, "see python -m mrsynth compare --help")
    low, high = float(images.min()), float(images.max())
    if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):  # NaN is neither
        raise UserError(
            "values in [-1, 1]",
            f"values from {low:.4g} to {high:.4g}",
            file,
            "scale them so, or give subjects by a datalist",
        )
    return images


def _picture(file: Path, value_range: Sequence[float] | None) -> np.ndarray:
    """The one image of a picture, `(1, C, H, W)`."""
    try:
        with Image.open(file) as picture:
            deep = picture.mode.startswith(("I", "F"))  # 16 or 32 bits, integers or floats
            gray = deep or picture.mode in ("L", "1", "LA")
            pixels = np.asarray(picture if deep else picture.convert("L" if gray else "RGB"), dtype=np.float32)
    except (OSError, UnidentifiedImageError) as error:
        raise UserError("a picture", f"{error}", file, "fetch it again, or take it away") from error
    low, high = (0.0, 255.0) if not deep else _within(value_range, pixels, file)
    scaled = (pixels - low) / ((high - low) / 2) - 1
    return (scaled[None] if gray else scaled.transpose(2, 0, 1))[None]


def _within(value_range: Any, pixels: np.ndarray, file: Path) -> tuple[float, float]:
    """``value_range``, which ``pixels`` do not leave."""
    low, high = pixels.min(), pixels.max()
    given = isinstance(value_range, (list, tuple)) and len(value_range) == 2 and value_range[0] < value_range[1]
    if not (given and value_range[0] <= low and high <= value_range[1]):  # NaN is neither
        raise UserError(
            "the least and the greatest value of pictures with more than 8 bits, the same for all",
            f"{value_range}, and values from {low:.6g} to {high:.6g}",
            file,
            "give them, for instance --value_range [0,4095]",
        )
    return float(value_range[0]), float(value_range[1])
