"""The dataset of a run that names none."""

from __future__ import annotations

import os

from mrsynth.manifest import training_datalist
from mrsynth.phantom.cohort import default_cohort


def default_dataset(datalist: object = None, output_dir: str | os.PathLike | None = None) -> str:
    """The folder of the embedded brains, made when it is first used.

    Args:
        datalist: of the run; where there is one, no dataset is needed.
        output_dir: of a training whose datalist is used where there is one.

    Returns:
        The folder, or an empty text where a datalist takes its place.
    """
    if datalist or (output_dir and training_datalist(output_dir)):
        return ""
    return str(default_cohort(subjects=20, spacing=2.0))
