"""MONAI dictionary transforms: loading, grids, intensities, conditions, transplants and writing of subjects."""

from mrsynth.transforms.augmentation import AUGMENTATIONS, usual_augmentation
from mrsynth.transforms.classes import LabelClassesd
from mrsynth.transforms.copy_paste import CopyPasted, check_millimeters, soften
from mrsynth.transforms.geometry import bounding_box, box_grid, box_map, resample
from mrsynth.transforms.grid import GRIDS, CropResampled, check_grid_name, coverage, to_native
from mrsynth.transforms.intensity import BrainMaskd, NormalizeInsideBraind, RescaleInsideBraind
from mrsynth.transforms.loading import LoadSubjectd, map_labels, read_volume
from mrsynth.transforms.nifti import header_of, write_nifti
from mrsynth.transforms.semantic import (
    CONDITIONS,
    EncodeSemanticd,
    SemanticLabeld,
    TissueClassesd,
    condition_values,
    encode,
    fill_tumor,
)
from mrsynth.transforms.transplant import TumorTransplantd, transplant

__all__ = [
    "AUGMENTATIONS",
    "CONDITIONS",
    "GRIDS",
    "BrainMaskd",
    "CopyPasted",
    "CropResampled",
    "EncodeSemanticd",
    "LabelClassesd",
    "LoadSubjectd",
    "NormalizeInsideBraind",
    "RescaleInsideBraind",
    "SemanticLabeld",
    "TissueClassesd",
    "TumorTransplantd",
    "bounding_box",
    "box_grid",
    "box_map",
    "check_grid_name",
    "check_millimeters",
    "condition_values",
    "coverage",
    "encode",
    "fill_tumor",
    "header_of",
    "map_labels",
    "read_volume",
    "resample",
    "soften",
    "to_native",
    "transplant",
    "usual_augmentation",
    "write_nifti",
]
