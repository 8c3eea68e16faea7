"""Synthetic subjects: pairs of donor and recipient, the way back to the native grid, and files with provenance."""

from mrsynth.synthesis.inpainting import OWN_TUMOR, InpaintingWeightd
from mrsynth.synthesis.intensities import OwnScaled, RestoreImaged, from_int16, mapping, own_scale, to_int16
from mrsynth.synthesis.pairs import TransplantPairs, ordered_pairs
from mrsynth.synthesis.variety import TumorVarietyd
from mrsynth.synthesis.writing import SubjectCollector, SubjectWriter, parents_in

__all__ = [
    "OWN_TUMOR",
    "InpaintingWeightd",
    "OwnScaled",
    "RestoreImaged",
    "SubjectCollector",
    "SubjectWriter",
    "TransplantPairs",
    "TumorVarietyd",
    "from_int16",
    "mapping",
    "ordered_pairs",
    "own_scale",
    "parents_in",
    "to_int16",
]
