"""How long one subject takes from disk to a training item, against plain SimpleITK measured in the same run.

    python tools/bench/load_subject.py --dataset_dir DIR [--repeats 9]

Both pipelines are the thesis's (Doncenco 2022, section 2.2): four .nii.gz, slices 30 to 125, nearest to 240x240x64,
each volume to [-1, 1] by its least and greatest value, and the fused label of brain and tumor. The two take turns;
medians are printed, and the ratio ours / SimpleITK. Then the same item from the memory and the disk cache, as a share
of our own cold time.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fire
import numpy as np
import SimpleITK as sitk
from monai.transforms import Compose

from mrsynth.manifest import resolve_datalist
from mrsynth.training import DiskCache, SeededDataset
from mrsynth.transforms import SemanticLabeld

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "tumor3d"
SIZE, SLICES = (240, 240, 64), (30, 125)


def ours() -> Compose:
    """The bundle's own transforms with the settings of ``paper.json``, and the semantic label."""
    sys.path.insert(0, str(BUNDLE))
    from scripts.preprocessing import preprocessing

    steps = preprocessing(SIZE, SLICES, "minmax", "mask", "nearest")
    return Compose([*steps.transforms, SemanticLabeld(["label"], ["semantic"], "mask")])


def plain(item: dict) -> tuple[np.ndarray, np.ndarray]:
    """The same in SimpleITK and NumPy as one would write it."""

    def grid(path: str) -> sitk.Image:
        image = sitk.ReadImage(path)
        image = image[:, :, SLICES[0] : SLICES[1]]
        spacing = [s * n / m for s, n, m in zip(image.GetSpacing(), image.GetSize(), SIZE, strict=True)]
        shift = [0.5 * (new - old) for new, old in zip(spacing, image.GetSpacing(), strict=True)]
        origin = image.TransformContinuousIndexToPhysicalPoint(
            [s / old for s, old in zip(shift, image.GetSpacing(), strict=True)]
        )
        return sitk.Resample(
            image, SIZE, sitk.Transform(), sitk.sitkNearestNeighbor, origin, spacing, image.GetDirection()
        )

    volumes = np.stack([sitk.GetArrayFromImage(grid(path)) for path in item["image"]]).astype(np.float32)
    label = sitk.GetArrayFromImage(grid(item["label"]))
    brain = (volumes != 0).any(axis=0)
    low, high = volumes.min(axis=(1, 2, 3), keepdims=True), volumes.max(axis=(1, 2, 3), keepdims=True)
    return (volumes - low) * (2 / (high - low)) - 1, np.where(brain, 1 + label, 0)


def seconds(function: Callable[[], object]) -> float:
    """Duration of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(dataset_dir: str, repeats: int = 9) -> None:
    """Print the table.

    Args:
        dataset_dir: a BraTS folder.
        repeats: timed calls of each.
    """
    item = resolve_datalist(dataset_dir)["training"][0]
    pipeline = ours()
    result = pipeline(item)
    semantic = plain(item)[1].T
    differing = float((result["semantic"][0].numpy() != semantic).mean())
    if differing > 1e-3:
        raise SystemExit(f"the pipelines disagree in {differing:.2%} of the fused label")
    times: dict[str, list[float]] = {"SimpleITK": [], "ours": []}
    for _ in range(repeats):
        times["SimpleITK"].append(seconds(lambda: plain(item)))
        times["ours"].append(seconds(lambda: pipeline(item)))
    theirs, cold = (statistics.median(times[name]) for name in ("SimpleITK", "ours"))
    memory = SeededDataset([item], pipeline, cache="memory")
    with tempfile.TemporaryDirectory() as folder:
        disk = DiskCache([item], pipeline, Path(folder))
        disk[0]
        cached = {
            "memory cache": statistics.median(seconds(lambda: memory[0]) for _ in range(repeats)),
            "disk cache": statistics.median(
                seconds(lambda: float(disk[0]["image"].as_tensor().sum())) for _ in range(repeats)
            ),
        }
    print(f"SimpleITK, cold    {theirs * 1000:8.1f} ms")
    print(f"ours, cold         {cold * 1000:8.1f} ms   {cold / theirs:.2f} of SimpleITK")
    for name, value in cached.items():
        print(f"ours, {name:12s} {value * 1000:8.1f} ms   {value / cold:.3f} of cold")


if __name__ == "__main__":
    fire.Fire(main)
