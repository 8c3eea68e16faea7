"""The default dataset of a run."""

from __future__ import annotations

import os

from mrsynth.manifest import training_datalist
from mrsynth.phantom.cohort import default_cohort


def default_dataset(datalist: object = None, output_dir: str | os.PathLike | None = None) -> str:
    """The folder of the embedded brains, made when it is first used.

    Args:
        datalist: datalist of the run. If there is one, no dataset is needed.
        output_dir: output folder of the training; if it holds a datalist, that one is used.

    Returns:
        The folder, or an empty string if a datalist is used instead.
    """
    if datalist or (output_dir and training_datalist(output_dir)):
        return ""
    return str(default_cohort(subjects=20, spacing=2.0))
