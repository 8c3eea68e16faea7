"""Compare two folders of subjects: how close are the synthetic ones to the real ones?

    python examples/compare_folders.py                      # phantoms stand in for both
    python examples/compare_folders.py REAL SYNTHETIC       # your folders

Each folder is a dataset as it is published, or a folder that `synthesize` has written. The measures are those of
`python -m mrsynth compare`, on axial slices of FLAIR.
"""

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from mrsynth.images import compare
from mrsynth.manifest import index
from mrsynth.phantom import make_cohort


def phantoms(folder: Path, seed: int, blur: float) -> Path:
    """Four small phantoms. Blurred, they stand for the work of a generator that makes smooth images."""
    cohort = make_cohort(folder, subjects=4, seed=seed, spacing=4, workers=1)
    for file in cohort.glob("*/*_flair.nii.gz"):
        image = nib.load(file)
        voxels = np.asarray(image.dataobj)
        smooth = gaussian_filter(voxels.astype(np.float32), blur)
        smooth = np.where(voxels > 0, smooth.round().clip(1), 0)  # the background stays 0
        nib.save(nib.Nifti1Image(smooth.astype(voxels.dtype), image.affine), file)
    return cohort


def datalist(folder: Path, out: Path) -> Path:
    """The datalist of a folder. Synthetic subjects bring their own; other folders are indexed."""
    own = folder / "datalist.json"
    if own.is_file():
        return own
    index(folder, out=out, validation=0, test=0, label=False)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("real", nargs="?", type=Path, help="folder of real subjects; by default, phantoms are made")
    parser.add_argument("synthetic", nargs="?", type=Path, help="folder of synthetic subjects")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder for the result")
    given = parser.parse_args()
    if given.real and not given.synthetic:
        parser.error("pass two folders, or none")

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        real = given.real or phantoms(work / "real", seed=0, blur=0)
        synthetic = given.synthetic or phantoms(work / "synthetic", seed=1, blur=1)
        result = compare(
            datalist(real, work / "real.json"),
            datalist(synthetic, work / "synthetic.json"),
            out=given.out,
            sequences=["flair"],
            size=[64, 64],
            draws=3,
        )
    frechet = {pair: values["mean"] for pair, values in result["measures"]["frechet"].items()}
    print(
        f"\nFréchet distance {frechet['synthetic']:.1f}. "
        f"The best possible is about {frechet['half of real']:.1f}, noise has {frechet['noise']:.1f}."
    )


if __name__ == "__main__":
    main()
