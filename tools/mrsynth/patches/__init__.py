"""Patches of breast MRI: Haarburger 2019, sections 2 and 3.

``python -m mrsynth patches --root DIR --out DIR`` cuts them once; a training then reads them as they are.
"""

from mrsynth.manifest.breasts import CLASSES, SEQUENCES, breast_datalist, read_cohort
from mrsynth.patches.cutting import SUBTRACTION
from mrsynth.patches.reading import index_of, patch_stacks, read_store
from mrsynth.patches.store import cut_patches

__all__ = [
    "CLASSES",
    "SEQUENCES",
    "SUBTRACTION",
    "breast_datalist",
    "cut_patches",
    "index_of",
    "patch_stacks",
    "read_cohort",
    "read_store",
]
