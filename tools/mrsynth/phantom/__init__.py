"""The embedded cohorts: computed brain MRI with tumors, made from the MNI152 tissue maps, and computed breast MRI.

Brains are written in the layout of BraTS 2020 and 2021, so that any reader of that dataset can read them. Anatomy,
tumor, contrast and noise are functions of (seed, index): the same seed gives the same voxels.
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
