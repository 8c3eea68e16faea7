"""The command line: ``mrsynth COMMAND``, or ``python -m mrsynth COMMAND``. Without a command it lists them."""

from __future__ import annotations

import sys

import fire

from mrsynth import logs
from mrsynth.errors import UserError
from mrsynth.images import compare
from mrsynth.manifest import index, summary
from mrsynth.patches import cut_patches
from mrsynth.phantom import make_cohort
from mrsynth.settings import settings


def phantom(out: str, subjects: int = 20, seed: int = 0, spacing: float = 1.0) -> str:
    """Make phantom brains with tumors, in the layout of BraTS.

    Args:
        out: folder to write; each subject gets a subfolder.
        subjects: number of subjects.
        seed: the same seed gives the same voxels.
        spacing: voxel size in mm; BraTS has 1.
    """
    return f"{subjects} subjects in {make_cohort(out, subjects, seed, spacing)}"


def as_printed(result: object) -> object:
    """The text to print for a command's result: a summary for an index, nothing for a command that prints by itself."""
    if result is COMMANDS:
        lines = [f"  {name:10}{(command.__doc__ or '').strip().splitlines()[0]}" for name, command in COMMANDS.items()]
        return "\n".join(["Usage: mrsynth COMMAND [--help]", "", *lines])
    if isinstance(result, dict):
        return summary(result) if "training" in result else ""
    return result


COMMANDS = {"compare": compare, "index": index, "patches": cut_patches, "phantom": phantom, "settings": settings}


def as_meant(word: str) -> str:
    """``true``, ``false`` and ``null`` in any case as Python Fire reads them, also after ``--name=``."""
    name, equals, value = word.rpartition("=")
    return name + equals + {"true": "True", "false": "False", "null": "None"}.get(value.lower(), value)


def main() -> None:
    """Run the command that the arguments name. A user's error ends with its message and exit code 1."""
    logs.configure()
    try:
        fire.Fire(COMMANDS, [as_meant(word) for word in sys.argv[1:]], name="mrsynth", serialize=as_printed)
    except UserError as error:
        sys.exit(f"\nCannot go on:{error}")


if __name__ == "__main__":
    main()
