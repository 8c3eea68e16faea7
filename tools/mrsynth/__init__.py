"""mrsynth: what every synthetic-MRI bundle of this project is built of.

The rooms, lower ones never importing higher ones: ``manifest`` (datasets, splits, lineage), ``transforms``
and ``phantom``, ``networks``, ``training`` (how any run is started, watched, saved and resumed),
``adversarial`` (the two-player game), ``metrics``, ``synthesis``, ``images`` (games in two dimensions),
``patches`` (cut out of breast MRI), ``segmentation``, ``settings`` (described, checked and recorded),
``study`` (what synthetic data does to a segmenter), and the command line ``python -m mrsynth``.

``mrsynth.load("runs/first")`` gives a trained model to sample from, or to segment with.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "adversarial",
    "errors",
    "images",
    "logs",
    "manifest",
    "metrics",
    "networks",
    "patches",
    "phantom",
    "segmentation",
    "settings",
    "study",
    "synthesis",
    "training",
    "transforms",
)


def __getattr__(name: str) -> Any:
    """Rooms and ``load`` are imported when first named: ``import mrsynth`` is enough for a config and costs nothing."""
    if name == "load":
        return import_module("mrsynth.loading").load
    if name in _ROOMS:
        return import_module(f"mrsynth.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The rooms and ``load`` too, although they are imported only when first named."""
    return sorted({*globals(), *_ROOMS, "load"})
