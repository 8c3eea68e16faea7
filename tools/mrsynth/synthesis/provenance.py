"""How a synthetic set was made: said beside each part of it, and required of whoever goes on filling its folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError
from mrsynth.files import unwritable
from mrsynth.manifest import load_datalist, write_datalist
from mrsynth.versions import NETWORKS, versions


class Recipe:
    """All that decides what is made: the weights' SHA-256, seed, settings.

    Attributes:
        content: plain values, as they are read back from JSON.
        tag: six digits that differ for another content.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content: dict[str, Any] = json.loads(json.dumps(content))
        self.tag = digest(self.content)[:6]

    def read(self, sidecar: Path, folder: Path) -> dict[str, Any]:
        """A sidecar's content, whose ``made_by`` must be this recipe.

        Args:
            sidecar: the file.
            folder: of the set, named in the error.

        Raises:
            UserError: it cannot be read, or was made otherwise.
        """
        expected = "a folder that is empty, or that the same weights, data, seed and settings have begun to fill"
        do = "move this folder away, or give another output_dir (and the weights by --weights)"
        name = sidecar.stem
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
            made_by = content["made_by"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(expected, f"{name}, without a sidecar that can be read", folder, do) from error
        if made_by != self.content:
            raise UserError(expected, f"{name}, made by {_difference(made_by, self.content)}", folder, do)
        return content

    def write_datalist(
        self, folder: Path, name: str, items: Sequence[Mapping[str, Any]], **facts: Any
    ) -> tuple[Path, dict[str, Any]]:
        """``datalist.json`` of a set that is complete, read back once, and where it is.

        Args:
            folder: of the set.
            name: of the set.
            items: synthetic, so all of them are for training.
            facts: whatever else it says.
        """
        datalist = {"name": name, "made_by": {**self.content, "versions": versions(NETWORKS)}, **facts}
        datalist |= {"training": list(items), "validation": [], "test": []}
        path = folder / "datalist.json"
        write_datalist(path, datalist)
        load_datalist(path)
        return path, datalist


def cleared(folder: Path) -> list[Path]:
    """What is in ``folder``, which is made where it is not there; what a killed process left half-written is removed.

    Raises:
        UserError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = sorted(folder.iterdir())
        for entry in entries:
            if entry.name.startswith(".tmp-"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error
    return [entry for entry in entries if not entry.name.startswith(".tmp-")]


def digest(content: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """In words, what another recipe has and this one has not."""
    flat = [{**{k: v for k, v in r.items() if k != "settings"}, **r.get("settings", {})} for r in (theirs, mine)]
    keys = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    return ", ".join(f"{key} {flat[0].get(key)} instead of {flat[1].get(key)}" for key in keys)
