"""References to models, and the grammar of names: plain Python, so that a command line starts quickly."""

import re
from typing import NamedTuple

from app.domain.errors import InvalidNameError

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
REFERENCE_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?(@[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?|/[1-9][0-9]{0,8})?$"
NAME_RULE = "1 to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit, without '..'"


class Reference(NamedTuple):
    """Name a model and, at most one of them, a version or an alias; neither means the newest version."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        """Write the reference in the grammar that `parse_reference` reads."""
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return self.name if self.version is None else f"{self.name}/{self.version}"


def check_name(name: str) -> str:
    """Return the name, or raise InvalidNameError that tells the rule."""
    if ".." in name or not re.fullmatch(NAME_PATTERN[1:-1], name):
        raise InvalidNameError(f"{name[:80]!r} is not a valid name.", hint=f"A name has {NAME_RULE}.")
    return name


def parse_reference(text: str) -> Reference:
    """Read `name`, `name/3` or `name@alias`; raise InvalidNameError for anything else."""
    if ".." in text or not re.fullmatch(REFERENCE_PATTERN[1:-1], text):
        raise InvalidNameError(
            f"{text[:140]!r} does not name a model.",
            hint="Write `name`, `name/3` (a version) or `name@champion` (an alias).",
        )
    name, _, alias = text.partition("@")
    name, _, version = name.partition("/")
    return Reference(name, int(version) if version else None, alias or None)
