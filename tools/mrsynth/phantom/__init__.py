"""The embedded cohort: brain MRI of subjects who never existed, made on the spot from the MNI152 tissue maps.

Every subject is written as BraTS 2020/2021 publishes its own, so that whatever reads that dataset reads this.
Anatomy, tumor, contrast and noise are functions of (seed, index): same seed, same voxels.
"""

from mrsynth.phantom.cohort import default_breast_cohort, default_cohort, make_breast_cohort, make_cohort
from mrsynth.phantom.dataset import default_dataset
from mrsynth.phantom.subject import make_subject

__all__ = [
    "default_breast_cohort",
    "default_cohort",
    "default_dataset",
    "make_breast_cohort",
    "make_cohort",
    "make_subject",
]
