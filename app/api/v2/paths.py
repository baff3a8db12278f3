"""Names in paths: `models/m`, `models/m@alias`, and an alias where the protocol has a version."""

import re
from typing import Annotated

from fastapi import Path

from app.domain.errors import ModelNotFoundError
from app.domain.names import NAME_PATTERN, Reference

NAME = NAME_PATTERN[1:-1]
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

ModelInPath = Annotated[str, Path(pattern=rf"^{NAME}(@{NAME})?$", description="A model, `name` or `name@alias`.")]
VersionInPath = Annotated[str, Path(pattern=NAME_PATTERN, description="Number of the version, or an alias.")]


def reference_of(name: str, version: str | None = None) -> Reference:
    """Return what a path names; raise ModelNotFoundError where it has an alias and a version."""
    name, _, alias = name.partition("@")
    if version is None:
        return Reference(name, alias=alias or None)
    if alias:
        raise ModelNotFoundError(f"`{name}@{alias}` has no versions of its own.", hint="Name an alias or a version.")
    return Reference(name, int(version)) if _NUMBER.fullmatch(version) else Reference(name, alias=version)
