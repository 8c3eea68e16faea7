"""The settings of a bundle as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mrsynth.errors import UserError
from mrsynth.settings.description import SCOPES, described

LEFT_OUT = ("metadata.json", "settings.json")
"""Files in ``configs`` that are no configs of a run."""


def settings(bundle: str) -> str:
    """Show the settings of a bundle: type, range, default of each config, and what it does.

    Args:
        bundle: folder of the bundle, such as ``bundles/brain2d``.
    """
    return settings_table(bundle)


def settings_table(bundle: str) -> str:
    """The settings of a bundle as Markdown, one table for each config that has settings of its own.

    Args:
        bundle: folder of the bundle, such as ``bundles/brain2d``.

    Raises:
        UserError: not the folder of a bundle.
    """
    configs = Path(bundle) / "configs"
    if not (configs / "settings.json").is_file():
        raise UserError(
            "the folder of a bundle, with configs/settings.json",
            "no such file",
            bundle,
            "pass for instance bundles/brain2d",
        )
    known = described(bundle)
    order = ["train.json", "inference.json", "evaluate.json"]
    files = sorted(configs.glob("*.json"), key=lambda f: (order.index(f.name) if f.name in order else 9, f.name))
    parts, shown = [], set()
    for file in files:
        if file.name in LEFT_OUT:
            continue
        values = {n: v for n, v in json.loads(file.read_text(encoding="utf-8")).items() if n in known}
        if not values:
            continue
        rows = [
            f"| `{n}` | {_value(v)} | {_cell(known[n].values)} | {_cell(known[n].help)} | {known[n].scope} |"
            for n, v in values.items()
        ]
        parts.append(
            "\n".join(
                [
                    f"### {file.name}",
                    "",
                    "| setting | value | type and range | meaning | scope |",
                    "|---|---|---|---|---|",
                    *rows,
                ]
            )
        )
        shown |= {known[n].scope for n in values}
    scopes = "\n".join(f"- `{scope}`: {text}." for scope, text in SCOPES.items() if scope in shown)
    return "\n\n".join([*parts, "Scopes:\n\n" + scopes]) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str) and value[:1] in ("$", "@"):
        return f"as `{value[1:]}`" if value[0] == "@" else "computed"
    return "none" if value is None else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
