"""How real, how faithful: measures of synthetic images."""

from mrsynth.metrics.fidelity import BrainSSIM, fidelity, ssim_map

__all__ = ["BrainSSIM", "fidelity", "ssim_map"]
