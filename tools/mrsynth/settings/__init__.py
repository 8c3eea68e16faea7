"""Settings of bundles: described once; the description checks, records and documents them.

``shared.json`` here and ``configs/settings.json`` of each bundle are JSON Schemas: type, range, unit and help of every
setting. Their values stand in the configs. Two keywords are the project's own: ``unit``, and ``scope``, which says who
must use the same value (:data:`SCOPES`).
"""

from mrsynth.settings.config import check, check_options, read, running_parser, trained
from mrsynth.settings.description import SCOPES, Setting, Settings, described, plain
from mrsynth.settings.table import settings, settings_table

__all__ = [
    "SCOPES",
    "Setting",
    "Settings",
    "check",
    "check_options",
    "described",
    "plain",
    "read",
    "running_parser",
    "settings",
    "settings_table",
    "trained",
]
