"""Names and references as pydantic checks them, one grammar for all of Leanfuse."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from app.domain.references import (
    NAME_PATTERN,
    NAME_RULE,
    REFERENCE_PATTERN,
    Reference,
    check_name,
    parse_reference,
)

__all__ = [
    "NAME_PATTERN",
    "NAME_RULE",
    "REFERENCE_PATTERN",
    "RESERVED_NAMES",
    "ModelName",
    "ModelReference",
    "Name",
    "Reference",
    "check_name",
    "parse_reference",
]

# GET /v2/models/stats tells of all models.
RESERVED_NAMES = frozenset({"stats"})


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
