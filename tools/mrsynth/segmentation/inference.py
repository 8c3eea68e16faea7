"""From the logits of a segmenter to a label on a grid, and to files."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import Transform
from tqdm import tqdm

from mrsynth.metrics import to_label
from mrsynth.representation import ShowsParameters
from mrsynth.training import ResultWriter
from mrsynth.transforms import check_grid_name, header_of, to_native, write_nifti
from mrsynth.transforms.geometry import as_array

logger = logging.getLogger(__name__)

CERTAIN = 20.0
"""Logit of the background outside the brain; the other classes have 0 there."""


class LogitsToLabeld(ShowsParameters, Transform):
    """Convert logits to a tumor label, on the native or the training grid.

    If the voxel sizes of the two grids differ, probabilities are interpolated first, and the most probable class is
    taken afterwards. This leaves no steps in the outline.

    The item must have ``image`` (the input of the network, for its affine) and ``native`` (``shape``, ``affine``).

    Args:
        grid: ``native`` or ``training``.
        key: logits `(4, X, Y, Z)`; replaced by a uint8 MetaTensor `(1, X, Y, Z)`, values 0, 1, 2, 4.

    Raises:
        UserError: an unknown grid.
    """

    def __init__(self, grid: str = "native", key: str = "pred") -> None:
        self.grid, self.key = check_grid_name(grid), key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict:
        item = dict(data)
        logits = torch.as_tensor(item[self.key]).detach().cpu()
        logits = logits.as_tensor() if isinstance(logits, MetaTensor) else logits
        affine = as_array(item["image"].affine)
        if self.grid == "training":
            label = to_label(logits.argmax(dim=0)).numpy()
        else:
            shape, native = tuple(int(n) for n in item["native"]["shape"]), as_array(item["native"]["affine"])
            if np.allclose(affine[:3, :3], native[:3, :3], atol=1e-4):
                found = to_label(logits.argmax(dim=0)).numpy()
                label = to_native(found[None], affine, shape, native, "nearest")[0][0]
            else:
                probabilities = torch.softmax(logits.float(), dim=0).numpy()
                carried, covered = to_native(probabilities, affine, shape, native, "linear")
                label = np.where(covered, to_label(torch.from_numpy(carried).argmax(dim=0)).numpy(), 0)
            affine = native
        item[self.key] = MetaTensor(torch.from_numpy(label.astype(np.uint8)[None]), affine=torch.as_tensor(affine))
        return item


def background_outside(logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Replace logits outside the brain, where every sequence is exactly 0, by certain background.

    Args:
        logits: `(B, C, X, Y, Z)`; channel 0 is background.
        image: the input of the network, `(B, 4, X, Y, Z)`.

    Examples:
        >>> import torch
        >>> from mrsynth.segmentation import background_outside
        >>> image = torch.zeros(1, 4, 1, 1, 2)
        >>> image[..., 1] = 5  # brain
        >>> background_outside(torch.ones(1, 4, 1, 1, 2), image)[0, :, 0, 0]
        tensor([[20.,  1.],
                [ 0.,  1.],
                [ 0.,  1.],
                [ 0.,  1.]])
    """
    certain = logits.new_zeros(logits.shape[1])
    certain[0] = CERTAIN
    outside = (image == 0).all(dim=1, keepdim=True)
    return torch.where(outside, certain.view(1, -1, 1, 1, 1), logits)


class SegmentationWriter(ResultWriter):
    """Ignite handler that writes each predicted label as ``<output_dir>/segmentations/<subject>_seg.nii.gz``.

    Attach it to an evaluator whose postprocessing is :class:`LogitsToLabeld`.

    Args:
        output_dir: folder in which ``segmentations/`` is made.
    """

    def __init__(self, output_dir: str | os.PathLike) -> None:
        self.folder = Path(output_dir).expanduser().absolute() / "segmentations"
        self.written: list[Path] = []

    def __call__(self, engine: Engine) -> None:
        """Write the labels of the last iteration."""
        batch: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(batch, outputs, strict=True):
            label = output["pred"]
            header = header_of(item["image"].meta["filename_or_obj"])
            path = self.folder / f"{item['subject']}_seg.nii.gz"
            write_nifti(path, as_array(label)[0], as_array(label.affine), header)
            self.written.append(path)
            self.bar.update()

    def make_bar(self, engine: Engine) -> tqdm:
        """Of the subjects."""
        return tqdm(total=engine.state.epoch_length, unit="subject")

    def _close_bar(self, engine: Engine, error: BaseException | None = None) -> None:
        super()._close_bar(engine, error)
        logger.info(f"\nMade:\n  {len(self.written)} labels in {self.folder}")


class SegmentationCollector(SegmentationWriter):
    """A :class:`SegmentationWriter` that keeps the labels in memory and writes nothing.

    Attributes:
        made: uint8 MetaTensors `(1, X, Y, Z)`, values 0, 1, 2, 4.
    """

    def __init__(self, output_dir: str | os.PathLike) -> None:
        super().__init__(output_dir)
        self.made: list[torch.Tensor] = []

    def __call__(self, engine: Engine) -> None:
        """Keep the labels of the last iteration."""
        outputs: Any = engine.state.output
        self.made += [output["pred"] for output in outputs]
        self.bar.update(len(outputs))

    def _close_bar(self, engine: Engine, error: BaseException | None = None) -> None:
        ResultWriter._close_bar(self, engine, error)
