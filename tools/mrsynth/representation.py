"""``repr`` of an object as the call that makes it."""

from __future__ import annotations

import inspect
import reprlib
from typing import Any

SHORT = reprlib.Repr()
SHORT.maxother = SHORT.maxstring = 80
SHORT.maxlist = SHORT.maxtuple = 8
"""Arguments as text; a long one is cut."""


class ShowsParameters:
    """A base class whose ``repr`` shows the class and all its parameters, defaults too.

    The arguments are kept in a private attribute, so that nothing that compares public attributes sees them.

    Examples:
        >>> from mrsynth.adversarial import WeightClipping
        >>> WeightClipping(0.01)
        WeightClipping(bound=0.01)
    """

    _given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made._given = args, kwargs
        return made

    def __repr__(self) -> str:
        args, kwargs = self._given
        name, made = type(self).__name__, type(self).__init__
        if made is object.__init__:
            return f"{name}()"
        bound = inspect.signature(made).bind(self, *args, **kwargs)
        bound.apply_defaults()
        shown = [f"{key}={SHORT.repr(value)}" for key, value in list(bound.arguments.items())[1:]]  # without self
        return f"{name}({', '.join(shown)})"

    __str__ = __repr__
