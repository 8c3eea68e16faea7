"""The description of each setting of a bundle, and the check of a value."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from mrsynth.errors import UserError

SCOPES = {
    "run": "one run alone; a resumed run may change it",
    "training": "recorded with the weights; a resumed training must use the same value",
    "weights": "as training; inference and evaluation use the recorded value and refuse another",
    "inherited": "as training; inference and evaluation use the recorded value unless another is given",
}
"""Who must use the same value of a setting."""

WORDS = {"true": True, "false": False, "null": None, "none": None}
"""Words that mean a value, in any case, where the setting can have that value."""

ARTICLES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "True or False",
    "array": "a list",
    "object": "a dictionary",
    "null": "None",
}


class Settings(dict):
    """Recorded settings by name.

    Args:
        recorded: those that a resumed training must share.
        run: those of this run alone, such as ``output_dir``.
    """

    def __init__(self, recorded: Mapping[str, Any], run: Mapping[str, Any] | None = None) -> None:
        super().__init__(recorded)
        self.run = dict(run or {})


@dataclass(frozen=True)
class Setting:
    """One setting of a bundle.

    Args:
        name: its key in the configs.
        schema: JSON Schema of its value, with ``description`` and the project's keywords ``unit`` and ``scope``.
    """

    name: str
    schema: Mapping[str, Any]

    @property
    def scope(self) -> str:
        """Key of :data:`SCOPES`."""
        return self.schema.get("scope", "training")

    @property
    def help(self) -> str:
        """One sentence."""
        return self.schema["description"]

    @property
    def values(self) -> str:
        """Type, range or choices, and unit, in words."""
        unit = self.schema.get("unit")
        return in_words(self.schema) + (f" ({unit})" if unit else "")

    def fits(self, value: Any) -> bool:
        """Whether ``value`` has the type and range of this setting."""
        return Draft202012Validator(self.schema).is_valid(plain(value))

    def meant(self, value: Any) -> Any:
        """``value``, or the value that its word stands for: ``true``, ``false``, ``null`` or ``none``."""
        if isinstance(value, str) and value.lower() in WORDS and self.fits(WORDS[value.lower()]):
            return WORDS[value.lower()]
        return value

    def check(self, value: Any, example: Any = None) -> Any:
        """The checked ``value``; a word that stands for a value is replaced.

        Args:
            value: of the setting.
            example: a value that fits, for the message.

        Raises:
            UserError: another type, or out of range.
        """
        value = self.meant(value)
        if not self.fits(value):
            raise UserError(
                f"{self.name}: {self.values}",
                repr(value),
                f"the setting {self.name}: {self.help}",
                f"pass for instance {as_option(self.name, example)}" if example is not None else "give such a value",
            )
        return value


def plain(value: Any) -> Any:
    """``value`` as JSON holds it: tuples as lists, paths and devices as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def as_option(name: str, value: Any) -> str:
    """``value`` as it is written on a command line."""
    if value is None:
        return f"--{name} none"
    text = str(value)
    return f'--{name} "{text}"' if any(sign in text for sign in " ,'[{") else f"--{name} {text}"


def described(bundle_root: str | os.PathLike) -> dict[str, Setting]:
    """The settings of a bundle by name: its own, and those that bundles share.

    Args:
        bundle_root: folder of the bundle, with ``configs/settings.json``.
    """
    return _described(str(bundle_root))


@cache
def _described(bundle_root: str) -> dict[str, Setting]:
    files = [Path(__file__).with_name("shared.json"), Path(bundle_root) / "configs" / "settings.json"]
    known: dict[str, Setting] = {}
    for file in files:
        properties = json.loads(file.read_text(encoding="utf-8"))["properties"]
        known |= {name: Setting(name, schema) for name, schema in properties.items()}
    return known


def in_words(schema: Mapping[str, Any]) -> str:
    """A schema's type, range or choices."""
    if "anyOf" in schema:
        return ", or ".join(in_words(part) for part in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(str(choice) for choice in schema["enum"])
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    words = []
    for kind in types:
        text = ARTICLES[kind]
        if kind in ("integer", "number"):
            text += _range(schema)
        if kind == "array":
            text += _items(schema)
        if kind == "object" and "properties" in schema:
            text += " with " + ", ".join(schema["properties"])
        words.append(text)
    return ", or ".join(words)


def _range(schema: Mapping[str, Any]) -> str:
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    parts = [f"{word} {schema[key]}" for key, word in bounds.items() if key in schema]
    return ", " + " and ".join(parts) if parts else ""


def _items(schema: Mapping[str, Any]) -> str:
    if "items" not in schema:
        return ""
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f"{least} values" if most == least else f"at least {least} value{'s' * (least > 1)}" if least else "values"
    return f" of {count}: {in_words(schema['items'])}"
