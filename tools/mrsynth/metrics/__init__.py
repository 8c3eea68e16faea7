"""How real, how faithful, how diverse: measures of synthetic images."""

from mrsynth.metrics.contrast import contrast, shell
from mrsynth.metrics.diversity import diversity, feature_names, tumour_features
from mrsynth.metrics.fidelity import BrainSSIM, fidelity, ssim_map
from mrsynth.metrics.summary import mean_sd

__all__ = [
    "BrainSSIM",
    "contrast",
    "diversity",
    "feature_names",
    "fidelity",
    "mean_sd",
    "shell",
    "ssim_map",
    "tumour_features",
]
