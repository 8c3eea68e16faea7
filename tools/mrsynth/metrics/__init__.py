"""How real, how faithful, how diverse synthetic images are; and how well a segmentation overlaps with its truth."""

from mrsynth.metrics.contrast import contrast, shell
from mrsynth.metrics.diversity import diversity, feature_names, tumour_features
from mrsynth.metrics.fidelity import BrainSSIM, fidelity, ssim_map
from mrsynth.metrics.overlap import MEASURES, RegionDice, region_scores, to_label
from mrsynth.metrics.summary import mean_sd, mean_sd_text

__all__ = [
    "MEASURES",
    "BrainSSIM",
    "RegionDice",
    "contrast",
    "diversity",
    "feature_names",
    "fidelity",
    "mean_sd",
    "mean_sd_text",
    "region_scores",
    "shell",
    "ssim_map",
    "to_label",
    "tumour_features",
]
