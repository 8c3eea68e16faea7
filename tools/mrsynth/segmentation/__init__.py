"""Everything that segmenters share around their networks: input, output, evaluation, pictures."""

from mrsynth.segmentation.evaluation import SegmentationEvaluation
from mrsynth.segmentation.inference import (
    LogitsToLabeld,
    SegmentationCollector,
    SegmentationWriter,
    background_outside,
)
from mrsynth.segmentation.pictures import SegmentationMontage, outlines
from mrsynth.segmentation.preprocessing import preprocessing

__all__ = [
    "LogitsToLabeld",
    "SegmentationCollector",
    "SegmentationEvaluation",
    "SegmentationMontage",
    "SegmentationWriter",
    "background_outside",
    "outlines",
    "preprocessing",
]
