"""One exception for everything a user can put right: bad data, a bad setting, a full disk."""

from __future__ import annotations


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
