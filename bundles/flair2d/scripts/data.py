"""Settings that trained weights record."""

from __future__ import annotations

NAMES = ("split", "sequence", "plane", "slices", "best", "intensities", "latent_size", "dropout", "width", "upsampling")
"""Settings of data and network: keys of ``train.json`` that trained weights record."""
