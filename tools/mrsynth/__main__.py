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


def phantom(out: str, subjects: int = 20, seed: int = 0, spacing: float = 1.0) -> str:
    """Make a cohort of brains with tumors, written as BraTS publishes its data.

    Args:
        out: folder to write; one subfolder a subject.
        subjects: how many.
        seed: the same seed makes the same voxels.
        spacing: grid in mm; 1 is BraTS's own.
    """
    return f"{subjects} subjects in {make_cohort(out, subjects, seed, spacing)}"


def as_printed(result: object) -> object:
    """What is printed of a command's result: an index's summary; of what has spoken for itself, nothing."""
    if result is COMMANDS:
        lines = [f"  {name:10}{(command.__doc__ or '').strip().splitlines()[0]}" for name, command in COMMANDS.items()]
        return "\n".join(["Usage: mrsynth COMMAND [--help]", "", *lines])
    if isinstance(result, dict):
        return summary(result) if "training" in result else ""
    return result


COMMANDS = {"compare": compare, "index": index, "patches": cut_patches, "phantom": phantom}


def main() -> None:
    """Run the command that the arguments name; a user's mistake ends with its message and exit code 1."""
    logs.configure()
    try:
        fire.Fire(COMMANDS, name="mrsynth", serialize=as_printed)
    except UserError as error:
        sys.exit(f"\nCannot go on:{error}")


if __name__ == "__main__":
    main()
