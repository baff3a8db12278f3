"""Names and references, one grammar for all of Leanfuse."""

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from app.domain.errors import InvalidNameError

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
REFERENCE_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?(@[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?|/[1-9][0-9]{0,8})?$"
NAME_RULE = "1 to 63 of a-z, 0-9, '.', '_' and '-', starting and ending with a letter or digit, without '..'"

# GET /v2/models/stats tells of all models.
RESERVED_NAMES = frozenset({"stats"})


def check_name(name: str) -> str:
    """Return the name, or raise InvalidNameError that tells the rule."""
    if ".." in name or not re.fullmatch(NAME_PATTERN[1:-1], name):
        raise InvalidNameError(f"{name[:80]!r} is not a valid name.", hint=f"A name has {NAME_RULE}.")
    return name


def _refuse_double_dots(name: str) -> str:
    if ".." in name:
        raise ValueError(f"a name has {NAME_RULE}")
    return name


def _refuse_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(f"no model may be called {name!r}: a path of the Open Inference Protocol has that name")
    return name


Name = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN),
    AfterValidator(_refuse_double_dots),
    Field(description=f"A name: {NAME_RULE}.", examples=["digits-cnn"]),
]
ModelName = Annotated[Name, AfterValidator(_refuse_reserved)]
ModelReference = Annotated[
    str,
    StringConstraints(pattern=REFERENCE_PATTERN),
    AfterValidator(_refuse_double_dots),
    Field(
        description="A model: `name` (its newest version), `name/3` (a version) or `name@champion` (an alias).",
        examples=["digits-cnn@champion"],
    ),
]


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
