"""Dataset cards: what a public dataset is, who may use it, how its files are named and what its labels mean.

The cards are JSON files in ``data_manifest/`` (installed as the package ``mrsynth_cards``), one per dataset.
The index reads folders by them, so a card's ``files`` entry is both documentation and the pattern in use::

    "files": {
        "subject": "BraTS2021_\\\\d{5}",                 # regular expression of a subject's id
        "pattern": "{subject}_{kind}\\\\.nii(\\\\.gz)?",   # of a file, from the subject on
        "kinds": {"t1": "t1", ..., "label": "seg"}      # the part of the name that tells t1 from t2; "*": any usual one
    }

Upper and lower case are the same.

A group ``(?P<patient>...)`` inside ``subject`` marks the part that two time points of a patient share.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from mrsynth.errors import UserError

GENERIC = "brats_layout"
"""The card of folders in BraTS' layout whose names belong to no known release."""

USUAL_NAMES = {
    "t1": "t1[nw]?",
    "t1ce": "t1w?[_-]?(?:ce|c|gd|post|contrast)",
    "t2": "t2w?",
    "flair": "flair|t2f|t2[_-]?flair",
    "label": "seg|segmentation|label",
}
"""What the files of a subject are usually called, as regular expressions."""


@dataclass(frozen=True)
class FilePattern:
    """How to tell, from the end of a path, which subject a file belongs to and which of its files it is."""

    path: re.Pattern[str]
    kind: str | None
    """The kind that ``path`` stands for; None if the pattern has one group per kind."""

    def match(self, path: str) -> re.Match[str] | None:
        return self.path.search(path)


@dataclass(frozen=True)
class Card:
    """One dataset. ``about`` is the whole JSON file; the other fields are what the code works with."""

    id: str
    about: dict[str, Any]
    patterns: tuple[FilePattern, ...]
    subject_folder: re.Pattern[str] | None
    kinds: tuple[str, ...]
    label_map: dict[int, int] | None
    channels: list[int] | None

    @property
    def published(self) -> bool:
        """Whether it is a dataset with a labeling convention of its own, and not just a way to name files."""
        return bool(self.about.get("published", True))

    @property
    def indexable(self) -> bool:
        """Whether the card says how to find subjects by itself."""
        return bool(self.patterns)

    def foreign(self, value: int) -> str:
        """What a label value that is not of this dataset probably means; empty if the card does not know."""
        return self.about.get("foreign_labels", {}).get(str(value), "")


def card_ids() -> list[str]:
    """Ids of all cards, sorted.

    Examples:
        >>> from mrsynth.manifest import card_ids
        >>> [card for card in card_ids() if card.startswith("brats20")]
        ['brats2015', 'brats2016', 'brats2018', 'brats2019', 'brats2020', 'brats2021', 'brats2023']
    """
    return sorted(_cards())


def load_card(card_id: str) -> Card:
    """The card of dataset ``card_id``.

    Raises:
        UserError: there is no such card.

    Examples:
        >>> from mrsynth.manifest import load_card
        >>> load_card("brats2021").label_map
        {0: 0, 1: 1, 2: 2, 4: 4}
    """
    cards = _cards()
    if card_id not in cards:
        raise UserError(
            f"one of the datasets that have a card: {', '.join(sorted(cards))}",
            f"{card_id!r}",
            "--dataset",
            "pass --dataset with one of these, or add a card to data_manifest/",
        )
    return cards[card_id]


@cache
def _cards() -> dict[str, Card]:
    folder = resources.files("mrsynth_cards")
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".json")]
    contents = [json.loads(entry.read_text(encoding="utf-8")) for entry in files]
    return {about["id"]: _parse(about) for about in contents if "license" in about}


def _parse(about: dict[str, Any]) -> Card:
    label_map = about.get("label_map")
    files = about.get("files") or {}
    kinds = files.get("kinds", {})
    patterns: list[FilePattern] = []
    folder = None
    if files:
        subject = f"(?P<subject>{files['subject']})"
        kind = (
            "(?:"
            + "|".join(f"(?P<{name}>{USUAL_NAMES[name] if part == '*' else part})" for name, part in kinds.items())
            + ")"
        )
        pattern = files["pattern"].replace("{subject}", subject).replace("{kind}", kind)
        patterns.append(FilePattern(re.compile(f"(?:^|/){pattern}$", re.IGNORECASE), None))
        for extra in files.get("exceptions", []):
            patterns.append(FilePattern(re.compile(f"(?:^|/){extra['pattern']}$", re.IGNORECASE), extra["kind"]))
        if about.get("published", True):  # a layout's folders have any name
            folder = re.compile(f"(?:^|/){subject}$", re.IGNORECASE)
    return Card(
        id=about["id"],
        about=about,
        patterns=tuple(patterns),
        subject_folder=folder,
        kinds=tuple(kinds),
        label_map=None if label_map is None else {int(k): int(v) for k, v in label_map.items()},
        channels=about.get("channels"),
    )
