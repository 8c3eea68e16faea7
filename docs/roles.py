"""A Griffe extension: Sphinx roles in docstrings, such as ``:class:`~mrsynth.training.Draw```, become links."""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r":(?:class|func|data|meth|mod|attr):`(~?)([^`]+)`")


def link(match: re.Match[str]) -> str:
    """A link where the reference has the symbol, else its name alone."""
    short, path = match.groups()
    name = path.rsplit(".", 1)[-1] if short else path
    return f'<autoref optional identifier="{path}"><code>{name}</code></autoref>' if "." in path else f"`{name}`"


class Roles(griffe.Extension):
    """Rewrites the docstring of every object that is collected."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            obj.docstring.value = ROLE.sub(link, obj.docstring.value)
