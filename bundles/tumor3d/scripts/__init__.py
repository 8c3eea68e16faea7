"""What belongs to tumor3d alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from . import evaluation, inference, networks, pictures, preprocessing

__all__ = ["evaluation", "inference", "networks", "pictures", "preprocessing"]
