"""Writes the configs that bundles have in common from one text each: ``python tools/configs/generate.py``.

A bundle must be whole, so that it can be packaged, and MONAI has no way to include one config in another. Therefore the
text that bundles share stands here once, as Jinja templates: ``common`` (every bundle), ``images`` (the 2D generators)
and ``segmenters``. A file in the folder of a bundle's name fills in what is its own, and becomes that bundle's config.
A test compares the bundles with the templates; to change a config, change its template and run this script.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

HERE = Path(__file__).resolve().parent
BUNDLES = HERE.parents[1] / "bundles"
SHARED = ("common", "images", "segmenters")
"""Folders of text that several bundles use."""


def generated() -> dict[Path, str]:
    """The text of each generated config by its path."""
    loader = FileSystemLoader(HERE)
    environment = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    files = sorted(path for path in HERE.glob("*/*.json") if path.parent.name not in SHARED)
    texts = {
        BUNDLES / path.parent.name / "configs" / path.name: environment.get_template(
            path.relative_to(HERE).as_posix()
        ).render()
        for path in files
    }
    logging = (HERE / "common" / "logging.conf").read_text(encoding="utf-8")
    return texts | {BUNDLES / path.parent.name / "configs" / "logging.conf": logging for path in files}


def main() -> None:
    """Write those that differ, and say which."""
    for path, text in generated().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(BUNDLES.parent)}\n")


if __name__ == "__main__":
    main()
