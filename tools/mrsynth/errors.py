"""One exception for everything a user can put right: bad data, a bad setting, a full disk."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from itertools import pairwise, zip_longest
from types import TracebackType


class UserError(ValueError):
    """Something the user gave cannot be used.

    Args:
        expected: what was needed.
        found: what is there instead; may span lines when there are several findings.
        where: the file, folder or config key.
        do: what to do about it.
    """

    def __init__(self, expected: str, found: str, where: object, do: str) -> None:
        self.expected, self.found, self.where, self.do = expected, found, str(where), do
        super().__init__(f"\n  expected: {expected}\n  found:    {found}\n  where:    {where}\n  do:       {do}")

    def __reduce__(self) -> tuple:
        return type(self), (self.expected, self.found, self.where, self.do)


_AS_TEXT = re.compile(r"\n  expected: (.*?)\n  found:    (.*?)\n  where:    (.*?)\n  do:       (.*?)(?=\n\n|\Z)", re.S)


def user_error_in(error: BaseException | None) -> UserError | None:
    """The :class:`UserError` that ``error`` is or was raised from, if any."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return error
        # a DataLoader's worker process passes on nothing but the text of its traceback
        if parts := list(_AS_TEXT.finditer(str(error))):
            return UserError(*parts[-1].groups())
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


_LITERALS = {"false": "False", "null": "'$None'", "None": "'$None'"}
"""Words that ``python -m monai.bundle`` does not read as they are meant, by what to write."""


def show_plainly() -> None:
    """Let a :class:`UserError` end the program with its message alone, however deep a library has wrapped it.

    Every config's ``run`` begins with it. With ``MRSYNTH_TRACEBACK`` set, the whole traceback is shown.

    Raises:
        UserError: the command line says ``false`` or ``null``, which Fire takes for a text, and a text is true; or
            ``None``, which MONAI takes for an option that was not given; or it names an option that no config has.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        plain = user_error_in(error)
        if isinstance(error, KeyboardInterrupt):
            print("\nStopped. A training goes on from its last epoch with --resume true.", file=sys.stderr)
        elif plain is None or os.environ.get("MRSYNTH_TRACEBACK"):
            sys.__excepthook__(kind, error, traceback)
        else:
            print(f"\nCannot go on:{plain}", file=sys.stderr)

    sys.excepthook = hook
    _refuse_words(sys.argv[1:])
    _refuse_unknown_options(sys.argv[1:])


def _refuse_words(arguments: list[str]) -> None:
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for name, value in pairwise(words):
        if name.startswith("--") and value in _LITERALS:
            literal = _LITERALS[value]
            raise UserError(f"{name} {literal}", f"{name} {value}", "the command line", f"write {literal}")


def _refuse_unknown_options(arguments: list[str]) -> None:
    """MONAI accepts any ``--key`` and ignores one that no config has. ``a#b`` and ``a::b`` are looked up as ``a``."""
    given: dict[str, str] = {}
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            given[name] = value if equals else following
    if "config_file" not in given:
        return
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser, run

    config = ConfigParser.load_config_files(DefaultParseValue(given["config_file"]))
    own = {name for name in inspect.signature(run).parameters if name != "override"}
    known = {_top_level(key) for key in config} | own | {"_meta_"}
    for name in given:
        if _top_level(name) not in known:
            near = difflib.get_close_matches(_top_level(name), sorted(known), n=1, cutoff=0)
            raise UserError(
                f"an option that a config file has; the nearest is --{near[0]}",
                f"--{name}",
                "the command line",
                f"write --{near[0]}, or leave --{name} out",
            )


def _top_level(key: str) -> str:
    return re.split("#|::", key.lstrip("+~"))[0]
