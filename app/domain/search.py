"""The space of a search: where values may vary, which of them can work, and the train spec that a point makes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from pydantic import ValidationError

from app.domain.datasets import DatasetSchema, canonical_json
from app.domain.errors import FieldError, InvalidInputError, InvalidRequestError, OutOfRangeError, UnknownFieldError
from app.domain.explain import explain_validation, suggest
from app.domain.network import SizeLimits, Trace, trace
from app.domain.presets import build_network
from app.domain.specs import Choices, Range, SearchSpec, TrainSpec
from app.domain.training_specs import check_training

Point: TypeAlias = Mapping[str, Any]
Json: TypeAlias = Any  # what JSON may hold has no narrower type
JOINT_SAMPLES = 16
_MOST_ERRORS = 50


class _Problem(NamedTuple):
    pointer: str
    detail: str
    hint: str
    kind: type[InvalidInputError]


def base_point(spec: SearchSpec) -> dict[str, Any]:
    """Return the point that the spec itself stands for: what it says at every place that is searched."""
    body = spec.model_dump(mode="json")
    point: dict[str, Any] = {}
    for pointer in spec.space:
        parent, key = _slot(body, pointer)
        point[pointer] = parent[key]
    return point


def apply_point(spec: SearchSpec, point: Point) -> TrainSpec:
    """Return the spec of the training that a point stands for; raise InvalidInputError where a value does not fit."""
    body = spec.model_dump(mode="json", include={"name", "dataset", "architecture", "training", "seed"})
    for pointer, value in point.items():
        parent, key = _slot(body, pointer)
        parent[key] = value
    try:
        return TrainSpec.model_validate_json(canonical_json({"kind": "train", **body}))
    except ValidationError as invalid:
        raise explain_validation(invalid.errors(include_url=False), _train_schema()) from None


def check_point(spec: SearchSpec, point: Point, schema: DatasetSchema, *, limits: SizeLimits | None = None) -> Trace:
    """Return the size of a point's network; raise InvalidInputError when the point cannot be trained on the data."""
    chosen = apply_point(spec, point)
    check_training(chosen.training, schema)
    rows = schema.rows["train"]
    if chosen.training.batch_size > rows:
        raise OutOfRangeError(
            f"A batch of {chosen.training.batch_size:,} rows is more than the {rows:,} training rows.",
            hint=f"Allowed: at least 1 and at most {rows:,}.",
        )
    return trace(build_network(chosen.architecture, schema), limits=limits)


def check_space(spec: SearchSpec, schema: DatasetSchema, *, limits: SizeLimits | None = None) -> None:
    """Raise what makes a search impossible, each error with its place in the space.

    Every place must exist in the spec; every choice, both ends of every range and values between them must, one at a
    time, make a train spec whose network fits the data; and one of a few points drawn at random must too. That a
    certain mixture of values does not fit is no error: such a trial fails on its own.
    """
    for found in (_wrong_objectives(spec), _wrong_places(spec), _wrong_values(spec, schema, limits)):
        if problems := list(found):
            raise _as_error(problems)
    _check_jointly(spec, schema, limits)


def range_values(searched: Range, *, count: int = 5) -> list[int] | list[float]:
    """Return numbers from a range, both ends first, the others evenly between them (in their logarithm with `log`).

    Examples:
        >>> range_values(Range(low=1, high=9))
        [1, 9, 3, 5, 7]
    """
    low, high = float(searched.low), float(searched.high)
    inner = np.linspace(0, 1, count)[1:-1]
    between = np.exp(math.log(low) + inner * math.log(high / low)) if searched.log else low + inner * (high - low)
    if is_whole(searched):
        return list(dict.fromkeys([int(searched.low), int(searched.high), *(round(value) for value in between)]))
    return [low, high, *map(float, between)]


def is_whole(searched: Range) -> bool:
    """Say whether a range holds whole numbers only."""
    return isinstance(searched.low, int) and isinstance(searched.high, int)


def _slot(body: Json, pointer: str) -> tuple[Json, str | int]:
    """Return what holds the value at a pointer, and under which key; raise KeyError where the path ends too early."""
    *path, last = pointer.strip("/").split("/")
    for step in path:
        body = body[_key(body, step)]
    return body, _key(body, last)


def _key(holder: Json, step: str) -> str | int:
    if isinstance(holder, list) and step.isdecimal() and int(step) < len(holder):
        return int(step)
    if isinstance(holder, dict) and step in holder:
        return step
    raise KeyError(step)


def _wrong_objectives(spec: SearchSpec) -> Iterator[_Problem]:
    for index, objective in enumerate(spec.objectives):
        if objective in spec.objectives[:index]:
            detail = f"`{objective}` stands twice."
            yield _Problem(f"/objectives/{index}", detail, "Name each objective once.", InvalidRequestError)


def _wrong_places(spec: SearchSpec) -> Iterator[_Problem]:
    body = spec.model_dump(mode="json")
    for pointer in spec.space:
        outer = next((other for other in spec.space if pointer.startswith(f"{other}/")), None)
        if outer is not None:
            detail = f"`{pointer}` is a part of `{outer}`, which is searched as a whole."
            yield _Problem(_place(pointer), detail, "Search either the whole or its parts.", InvalidRequestError)
        else:
            yield from _missing_place(body, pointer)


def _missing_place(body: Json, pointer: str) -> Iterator[_Problem]:
    walked = ""
    for step in pointer.strip("/").split("/"):
        try:
            body = body[_key(body, step)]
        except KeyError:
            yield _Problem(
                _place(pointer), f"The spec has no `{walked}/{step}`.", _known(body, walked, step), UnknownFieldError
            )
            return
        walked += f"/{step}"


def _known(holder: Json, walked: str, step: str) -> str:
    if isinstance(holder, dict):
        return suggest(step, list(holder))
    if isinstance(holder, list):
        return f"`{walked}` is a list; its places are 0 to {len(holder) - 1}, or search it as a whole with `choices`."
    if holder is None:
        return f"Set `{walked}` in the spec first; what is not there has no fields to vary."
    return f"`{walked}` is a single value; search it itself."


def _wrong_values(spec: SearchSpec, schema: DatasetSchema, limits: SizeLimits | None) -> Iterator[_Problem]:
    for pointer, searched in spec.space.items():
        if isinstance(searched, Choices):
            yield from _repeated_choices(pointer, searched)
        told: set[str] = set()
        for place, value in _values(searched):
            try:
                check_point(spec, {pointer: value}, schema, limits=limits)
            except InvalidInputError as wrong:
                if place or not told:  # what lies between wrong ends is no news
                    detail = f"{_shown(value)} cannot stand at `{pointer}`: {wrong.detail}"
                    yield _Problem(_place(pointer) + place, detail, wrong.hint or _advice(searched), type(wrong))
                told.add(place)


def _repeated_choices(pointer: str, searched: Choices) -> Iterator[_Problem]:
    seen: set[bytes] = set()
    for index, value in enumerate(searched.choices):
        if (text := canonical_json(value)) in seen:
            place = f"{_place(pointer)}/choices/{index}"
            yield _Problem(place, f"{_shown(value)} stands twice.", "List each value once.", InvalidRequestError)
        seen.add(text)


def _values(searched: Range | Choices) -> Iterator[tuple[str, Any]]:
    """Yield the values that are tried, each with its place below the dimension."""
    if isinstance(searched, Choices):
        yield from ((f"/choices/{index}", value) for index, value in enumerate(searched.choices))
        return
    low, high, *between = range_values(searched)
    yield from chain([("/low", low), ("/high", high)], (("", value) for value in between))


def _advice(searched: Range | Choices) -> str:
    if isinstance(searched, Choices):
        return "Take it out of `choices`."
    return "Write both ends as whole numbers where whole ones are needed; lists and names are searched with `choices`."


def _check_jointly(spec: SearchSpec, schema: DatasetSchema, limits: SizeLimits | None) -> None:
    """Raise when not one of a few random points can work: the whole search would then train nothing."""
    first: InvalidInputError | None = None
    for number in range(JOINT_SAMPLES):
        rng = np.random.default_rng((spec.seed, number))
        point = {pointer: _drawn(searched, rng) for pointer, searched in spec.space.items()}
        try:
            check_point(spec, point, schema, limits=limits)
        except InvalidInputError as wrong:
            first = first or wrong
        else:
            return
    if first is not None:
        detail = f"None of {JOINT_SAMPLES} points drawn from the space can be trained; the first: {first.detail}"
        raise type(first)(
            detail,
            hint=first.hint or "Narrow the space.",
            errors=[FieldError("/space", "Its values do not go together.", first.slug)],
        )


def _drawn(searched: Range | Choices, rng: np.random.Generator) -> Json:
    values = [value for _, value in _values(searched)]
    return values[int(rng.integers(len(values)))]


def _as_error(problems: Sequence[_Problem]) -> InvalidInputError:
    first = problems[0]
    more = f" ({len(problems) - 1} more are wrong.)" if len(problems) > 1 else ""
    fields = [FieldError(item.pointer, item.detail, item.kind.slug) for item in problems[:_MOST_ERRORS]]
    return first.kind(f"{first.detail}{more}", hint=first.hint, errors=fields)


def _place(pointer: str) -> str:
    return "/space/" + pointer.replace("~", "~0").replace("/", "~1")


def _shown(value: object) -> str:
    text = canonical_json(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


@cache
def _train_schema() -> Mapping[str, Any]:
    return TrainSpec.model_json_schema()
