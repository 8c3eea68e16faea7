"""Code of unet3d alone: the network, its patches, and test-time flips."""

from . import inference, networks, preprocessing

__all__ = ["inference", "networks", "preprocessing"]
