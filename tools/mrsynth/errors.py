"""One exception for everything a user can put right: bad data, a bad setting, a full disk."""

from __future__ import annotations

import os
import re
import sys
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


def show_user_errors() -> None:
    """Let a :class:`UserError` end the program with its message alone, however deep a library has wrapped it.

    With ``MRSYNTH_TRACEBACK`` set, the whole traceback is shown.
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
