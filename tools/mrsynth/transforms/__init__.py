"""SimpleITK work as MONAI dictionary transforms: loading, grids, intensities, conditions, transplants."""

from mrsynth.transforms.geometry import bounding_box, box_grid, box_map, resample
from mrsynth.transforms.grid import CropResampled, coverage, to_native
from mrsynth.transforms.intensity import BrainMaskd, RescaleInsideBraind
from mrsynth.transforms.loading import LoadSubjectd, map_labels, read_volume
from mrsynth.transforms.semantic import (
    CONDITIONS,
    EncodeSemanticd,
    SemanticLabeld,
    TissueClassesd,
    condition_values,
    encode,
    fill_tumour,
)
from mrsynth.transforms.transplant import TumorTransplantd, transplant

__all__ = [
    "CONDITIONS",
    "BrainMaskd",
    "CropResampled",
    "EncodeSemanticd",
    "LoadSubjectd",
    "RescaleInsideBraind",
    "SemanticLabeld",
    "TissueClassesd",
    "TumorTransplantd",
    "bounding_box",
    "box_grid",
    "box_map",
    "condition_values",
    "coverage",
    "encode",
    "fill_tumour",
    "map_labels",
    "read_volume",
    "resample",
    "to_native",
    "transplant",
]
