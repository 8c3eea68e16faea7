"""Blocks that two or more bundles are built of."""

from mrsynth.networks.initialization import initialize_dcgan
from mrsynth.networks.spectral_norm import add_spectral_norm, folded_state_dict, power_iteration
from mrsynth.networks.upsampling import doubling

__all__ = ["add_spectral_norm", "doubling", "folded_state_dict", "initialize_dcgan", "power_iteration"]
