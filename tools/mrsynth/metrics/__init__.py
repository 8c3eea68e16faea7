"""Realism, fidelity and diversity of synthetic images, and the overlap of a segmentation with its reference."""

from mrsynth.metrics.checkerboard import PowerSpectrum, checkerboard_energy
from mrsynth.metrics.classification_accuracy import ClassificationAccuracyScore
from mrsynth.metrics.contrast import contrast, shell
from mrsynth.metrics.diversity import diversity, feature_names, tumor_features
from mrsynth.metrics.features import Features, build_features
from mrsynth.metrics.fidelity import BrainSSIM, fidelity, ssim_map
from mrsynth.metrics.frechet import GaussianStatistics, frechet_distance, frechet_extrapolated
from mrsynth.metrics.kernel import kernel_distance
from mrsynth.metrics.neighbors import density_coverage, nearest_neighbor_accuracy, precision_recall
from mrsynth.metrics.overlap import MEASURES, RegionDice, region_scores, to_label
from mrsynth.metrics.realism import LEAST_IMAGES, RealismValidator, class_distance, realism, realism_table
from mrsynth.metrics.summary import mean_sd, mean_sd_text
from mrsynth.metrics.two_sample import classifier_two_sample_test
from mrsynth.metrics.variety import ms_ssim_variety

__all__ = [
    "LEAST_IMAGES",
    "MEASURES",
    "BrainSSIM",
    "ClassificationAccuracyScore",
    "Features",
    "GaussianStatistics",
    "PowerSpectrum",
    "RealismValidator",
    "RegionDice",
    "build_features",
    "checkerboard_energy",
    "class_distance",
    "classifier_two_sample_test",
    "contrast",
    "density_coverage",
    "diversity",
    "feature_names",
    "fidelity",
    "frechet_distance",
    "frechet_extrapolated",
    "kernel_distance",
    "mean_sd",
    "mean_sd_text",
    "ms_ssim_variety",
    "nearest_neighbor_accuracy",
    "precision_recall",
    "realism",
    "realism_table",
    "region_scores",
    "shell",
    "ssim_map",
    "to_label",
    "tumor_features",
]
