"""What the segmenter bundles share around their networks: input, label out, evaluation, pictures."""

from mrsynth.segmentation.evaluation import Evaluation
from mrsynth.segmentation.inference import (
    FinishSegmentationd,
    SegmentationCollector,
    SegmentationWriter,
    background_outside,
)
from mrsynth.segmentation.pictures import FixedSubjects, outlines
from mrsynth.segmentation.preprocessing import preprocessing

__all__ = [
    "Evaluation",
    "FinishSegmentationd",
    "FixedSubjects",
    "SegmentationCollector",
    "SegmentationWriter",
    "background_outside",
    "outlines",
    "preprocessing",
]
