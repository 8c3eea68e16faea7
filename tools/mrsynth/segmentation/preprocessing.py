"""Preprocessing of a subject for a segmenter; the same in training, inference and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import CopyItemsd, DeleteItemsd, SelectItemsd, Transform

from mrsynth.transforms import BrainMaskd, CropResampled, LabelClassesd, LoadSubjectd, NormalizeInsideBraind


def preprocessing(
    spatial_size: Sequence[int] | None,
    crop: str | Sequence[int],
    interpolation: str = "linear",
    label: bool = True,
    keep_native: bool = False,
) -> list[Transform]:
    """From the files of a subject to ``image``, ``brain`` and, if there is one, ``label``.

    ``image`` `(4, X, Y, Z)` float32, mean 0 and standard deviation 1 inside the brain, 0 outside; ``brain``
    `(1, X, Y, Z)` uint8; ``label`` `(1, X, Y, Z)` uint8 class indices 0 to 3; ``native``, the grid of the files.

    Args:
        spatial_size: grid, X, Y, Z; None keeps the native voxels. A volume of this size keeps its grid, as do synthetic
            subjects that were written on the training grid.
        crop: see :class:`mrsynth.transforms.CropResampled`; the thesis's slab is ``[30, 125]`` to 240 x 240 x 64.
        interpolation: of the images: ``linear`` (with smoothing if the grid becomes coarser) or ``nearest``, as in the
            thesis. Labels always use nearest neighbor. Native voxels are not interpolated.
        label: whether the items have a label.
        keep_native: keep the label of the files, values 0, 1, 2, 4, as ``native_label``.
    """
    volumes = ["image", "brain", *(["label"] if label else [])]
    kept = ["native_label"] if keep_native else []
    modes = [interpolation, *["nearest"] * (len(volumes) - 1)]
    return [
        LoadSubjectd(["image", *(["label"] if label else [])]),
        *([CopyItemsd("label", names=kept)] if kept else []),
        BrainMaskd(),
        CropResampled(volumes, spatial_size, crop, interpolation=modes, keep_ready=True),
        NormalizeInsideBraind(),
        # the rest of a datalist's entry cannot be collated; a server's own keys go through
        *([LabelClassesd(), SelectItemsd([*volumes, *kept, "native", "subject"])] if label else []),
        DeleteItemsd(["channels", "label_map"]),
    ]
