"""Code of tumor3d alone; imported eagerly, so that servers that reload ``scripts`` reload all of it."""

from . import evaluation, inference, networks, pictures, preprocessing

__all__ = ["evaluation", "inference", "networks", "pictures", "preprocessing"]
