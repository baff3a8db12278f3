"""Job specs from files and flags."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import typer

Spec: TypeAlias = dict[str, Any]


def read_spec(file: Path) -> Spec:
    """Read a JSON object from a file or stdin; raise MalformedJsonError that says where it is broken."""
    from app.domain.errors import MalformedJsonError

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        spec = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise MalformedJsonError(f"{file} is not JSON: {error}.", hint="A job spec is one JSON object.") from error
    if not isinstance(spec, dict):
        raise MalformedJsonError(f"{file} holds no JSON object.", hint="A job spec is one JSON object.")
    return spec


def spec_of_kind(file: Path | None, kind: str) -> Spec:
    """Return the spec of a file, or an empty one, of one kind; refuse a file of another."""
    spec = {} if file is None else read_spec(file)
    if spec.setdefault("kind", kind) != kind:
        raise typer.BadParameter(f"{file} is a spec of kind {spec['kind']!r}: use `leanfuse {spec['kind']} {file}`.")
    return spec


def fill(spec: Spec, given: Mapping[str, object]) -> Spec:
    """Set what flags gave, by dotted path (`training.epochs`); None leaves the spec as it is."""
    for path, value in given.items():
        if value is not None:
            _put(spec, path, value)
    return spec


def read_settings(settings: Sequence[str]) -> dict[str, object]:
    """Return `--set PATH=VALUE` options: JSON where it is JSON, else text."""
    split = [setting.partition("=") for setting in settings]
    if wrong := [path for path, mark, _ in split if not mark or not path]:
        raise typer.BadParameter(f"{wrong[0]!r} is not PATH=VALUE, such as training.epochs=5.", param_hint="--set")
    return {path: _value(text) for path, _, text in split}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(spec: Spec, path: str, value: object) -> None:
    *parents, last = path.split(".")
    place = spec
    for name in parents:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            raise typer.BadParameter(f"`{name}` of {path!r} holds {inner!r}, no object.", param_hint="--set")
        place = inner
    place[last] = value
