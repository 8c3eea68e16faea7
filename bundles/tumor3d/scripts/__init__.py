"""What belongs to tumor3d alone; imported eagerly, so that servers which reload ``scripts`` see all of it."""

from . import networks, pictures, preprocessing

__all__ = ["networks", "pictures", "preprocessing"]
