"""Synthetic subjects: whose tumour in whose brain, back to the native grid, on disk with their provenance."""

from mrsynth.synthesis.intensities import FinishImaged, from_int16, mapping, to_int16
from mrsynth.synthesis.nifti import header_of, write_nifti
from mrsynth.synthesis.pairs import TransplantPairs, ordered_pairs
from mrsynth.synthesis.writing import SubjectWriter, parents_in

__all__ = [
    "FinishImaged",
    "SubjectWriter",
    "TransplantPairs",
    "from_int16",
    "header_of",
    "mapping",
    "ordered_pairs",
    "parents_in",
    "to_int16",
    "write_nifti",
]
