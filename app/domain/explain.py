"""Turn pydantic's errors into ours: which field, what is wrong, what is allowed, and what was probably meant."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from app.domain import errors, request_errors
from app.domain.errors import FieldError, InvalidInputError
from app.domain.names import NAME_PATTERN, NAME_RULE, REFERENCE_PATTERN

Schema = Mapping[str, Any]
Location = Sequence[int | str]

SERVER_FIELDS = frozenset(
    (
        *("id", "state", "phase", "token", "created_at", "started_at", "finished_at", "worker_id", "lease_expires_at"),
        *("result", "error", "progress", "done", "attempts", "version", "digest", "tenant_id", "recipe_digest"),
    )
)
_BOUNDS = frozenset(
    (
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
        *("too_short", "too_long", "string_too_short", "string_too_long"),
    )
)
_CHOICES = frozenset({"literal_error", "union_tag_invalid", "enum"})
# When several fields are wrong, the first of these kinds that occurs names the whole problem.
_PRECEDENCE: tuple[type[InvalidInputError], ...] = (
    request_errors.ReadOnlyFieldError,
    errors.UnknownFieldError,
    errors.UnknownComponentError,
    errors.InvalidEnsembleError,
    errors.InvalidNameError,
    request_errors.NonFiniteNumberError,
    errors.OutOfRangeError,
    errors.InvalidRequestError,
)
# A body of a megabyte can be wrong in ten thousand places; naming some of them must not take longer than the rest.
_MOST_ERRORS = 50


class Explained(NamedTuple):
    """One wrong field: where, what, how to mend it, and as which error it leaves."""

    pointer: str
    detail: str
    hint: str
    kind: type[InvalidInputError]


class _Place(NamedTuple):
    parts: tuple[str, ...]
    node: Schema
    siblings: tuple[str, ...]


def explain_validation(found: Sequence[ErrorDetails], schema: Schema | None = None) -> InvalidInputError:
    """Return the error that says what is wrong with a body.

    Args:
        found: What `ValidationError.errors()` gave.
        schema: JSON Schema of the body; with it, messages tell the allowed range and the nearest field.
    """
    telling = [item for item in found[: 2 * _MOST_ERRORS] if not _is_aftermath(item)]
    return _combine([_explain(item, schema or {}) for item in telling])


def _is_aftermath(item: ErrorDetails) -> bool:
    """Tell whether a list was called too short only because its items were wrong, so that none was counted."""
    shortest = item.get("ctx", {}).get("min_length", 0)
    return item["type"] == "too_short" and isinstance(item["input"], list) and len(item["input"]) >= shortest


def explain_parameters(found: Sequence[Any], schema: Schema | None = None) -> InvalidInputError:
    """Return the error that says which parameters are wrong; their location begins with `query`, `header` or `path`."""
    return _combine([_explain(item, schema or {}) for item in found])


def _combine(explained: Sequence[Explained]) -> InvalidInputError:
    kept = list(_without_other_branches(explained))[:_MOST_ERRORS]
    first = min(kept, key=lambda item: _PRECEDENCE.index(item.kind))
    more = f" ({len(kept) - 1} more below)" if len(kept) > 1 else ""
    fields = [FieldError(item.pointer, item.detail, item.kind.slug) for item in kept]
    return first.kind(f"{first.pointer or 'The body'}: {first.detail}{more}", hint=first.hint, errors=fields)


def _without_other_branches(explained: Sequence[Explained]) -> Iterator[Explained]:
    """Leave out what pydantic reports for the branches of a union that were not meant."""
    plain = errors.InvalidRequestError
    seen: set[str] = set()
    for item in sorted(explained, key=lambda item: item.kind is plain):
        deeper = any(other.pointer.startswith(item.pointer + "/") for other in explained)
        if item.pointer in seen or (deeper and item.pointer and item.kind in (plain, errors.UnknownComponentError)):
            continue
        seen.add(item.pointer)
        yield item


def _explain(item: ErrorDetails, schema: Schema) -> Explained:
    kind, location = item["type"], item["loc"]
    place = _locate(schema, location, last_is_field=kind in ("extra_forbidden", "missing"))
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in place.parts)
    if kind == "extra_forbidden":
        return _explain_extra(pointer, place)
    if kind in _CHOICES:
        return _explain_choice(pointer, item)
    if kind == "union_tag_not_found":
        return _explain_missing_tag(pointer, item, place)
    if kind in _BOUNDS:
        wrong = errors.InvalidEnsembleError if _within_ensemble(location, place) else errors.OutOfRangeError
        return Explained(pointer, f"{_shown(item)} is out of range.", _range(place.node, item), wrong)
    if kind == "finite_number":
        return Explained(
            pointer, "The number is not finite.", "Send a finite number.", request_errors.NonFiniteNumberError
        )
    if place.node.get("pattern") in (NAME_PATTERN, REFERENCE_PATTERN) and kind not in ("string_type", "missing"):
        rule = f"A name has {NAME_RULE}." if place.node["pattern"] == NAME_PATTERN else _described(place.node)
        return Explained(pointer, f"{_shown(item)} is not a valid name.", rule, errors.InvalidNameError)
    if kind == "value_error":
        misfit = errors.InvalidEnsembleError if location[:1] == ("ensemble",) else errors.InvalidRequestError
        return Explained(pointer, str(item.get("ctx", {}).get("error", item["msg"])), "", misfit)
    return Explained(pointer, _plain_detail(item), _described(place.node), errors.InvalidRequestError)


def _plain_detail(item: ErrorDetails) -> str:
    if item["type"] == "missing":
        return f"{item['msg']}."
    return f"{item['msg']}, not {_shown(item)}."


def _explain_extra(pointer: str, place: _Place) -> Explained:
    name = place.parts[-1]
    if name in SERVER_FIELDS:
        return Explained(
            pointer, f"`{name}` is written by the service.", "Leave it out.", request_errors.ReadOnlyFieldError
        )
    return Explained(
        pointer, f"There is no field `{name[:80]}` here.", suggest(name, place.siblings), errors.UnknownFieldError
    )


def _explain_choice(pointer: str, item: ErrorDetails) -> Explained:
    context = item.get("ctx", {})
    allowed = str(context.get("expected_tags") or context.get("expected", "")).replace(" or ", ", ").split(", ")
    options = tuple(option.strip("'\"") for option in allowed)
    if "discriminator" in context:
        pointer += "/" + str(context["discriminator"]).strip("'")
    given = str(context.get("tag", item["input"]))
    return Explained(
        pointer, f"{given[:80]!r} is not known here.", suggest(given, options), errors.UnknownComponentError
    )


def _explain_missing_tag(pointer: str, item: ErrorDetails, place: _Place) -> Explained:
    name = str(item.get("ctx", {}).get("discriminator", "")).strip("'")
    allowed = tuple(place.node.get("discriminator", {}).get("mapping", {}))
    return Explained(f"{pointer}/{name}", "Field required.", suggest("", allowed), errors.InvalidRequestError)


def suggest(given: str, options: Sequence[str]) -> str:
    """Say which of the options was probably meant, and list them all.

    >>> suggest("epoch", ["epochs", "batch_size"])
    'Did you mean `epochs`? Allowed: epochs, batch_size.'
    """
    near = difflib.get_close_matches(given[:80], options, n=1)
    meant = f"Did you mean `{near[0]}`? " if near else ""
    return f"{meant}Allowed: {', '.join(options)}." if options else meant.strip()


def _within_ensemble(location: Location, place: _Place) -> bool:
    return location[:1] == ("ensemble",) and bool({"weights", "members"} & set(place.parts[-2:]))


def _shown(item: ErrorDetails) -> str:
    value = item["input"]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _described(node: Schema) -> str:
    return str(node.get("description", ""))


def _range(node: Schema, item: ErrorDetails) -> str:
    """Say the whole allowed range, not only the side that was missed."""
    context = item.get("ctx", {})
    unit = {
        "too_short": " items",
        "too_long": " items",
        "string_too_short": " characters",
        "string_too_long": " characters",
    }
    low = _bound(node, "at least", ("minimum", "minItems", "minLength")) or _bound(
        node, "more than", ("exclusiveMinimum",)
    )
    high = _bound(node, "at most", ("maximum", "maxItems", "maxLength")) or _bound(
        node, "less than", ("exclusiveMaximum",)
    )
    if not low and not high:
        names = {
            "ge": "at least",
            "gt": "more than",
            "le": "at most",
            "lt": "less than",
            "min_length": "at least",
            "max_length": "at most",
        }
        low = next((f"{names[key]} {value:,.10g}" for key, value in context.items() if key in names), "")
    return f"Allowed: {' and '.join(part for part in (low, high) if part)}{unit.get(item['type'], '')}."


def _bound(node: Schema, words: str, keys: Sequence[str]) -> str:
    return next((f"{words} {node[key]:,.10g}" for key in keys if key in node), "")


def _locate(schema: Schema, location: Location, *, last_is_field: bool) -> _Place:
    """Follow an error's location through the schema; tags and labels of unions are pydantic's steps, not the JSON's."""
    options: list[Schema] = list(_options(schema, schema))
    parts: list[str] = []
    siblings: tuple[str, ...] = ()
    for index, step in enumerate(location):
        is_last = index == len(location) - 1
        tagged = [_resolve(schema, {"$ref": ref}) for ref in _tagged(options, step)]
        if tagged and not (is_last and last_is_field):
            options = tagged
            continue
        siblings = tuple(dict.fromkeys(name for option in options for name in option.get("properties", {})))
        child = next((found for option in options if (found := _child(option, step)) is not None), None)
        if child is None and schema and isinstance(step, str) and not (is_last and last_is_field):
            continue
        parts.append(str(step))
        options = list(_options(schema, child or {}))
    node = next((option for option in options if option.get("type") != "null"), {})
    return _Place(tuple(parts), node, siblings)


def _child(node: Schema, step: int | str) -> Schema | None:
    found: Any
    if isinstance(step, int):
        found = node.get("items")
    else:
        named = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
        found = node.get("properties", {}).get(step, named)
    return found if isinstance(found, Mapping) else None


def _tagged(options: Sequence[Schema], step: int | str) -> list[str]:
    mappings = [option.get("discriminator", {}).get("mapping", {}) for option in options]
    return [mapping[step] for mapping in mappings if step in mapping]


def _options(root: Schema, node: Schema) -> Iterator[Schema]:
    """Yield the schemas that a value may fit: the node, or what its unions offer."""
    node = _resolve(root, node)
    offered = [*node.get("anyOf", ()), *(() if "discriminator" in node else node.get("oneOf", ()))]
    if not offered:
        yield node
    for offer in offered:
        for option in _options(root, offer):
            yield {**option, "description": option.get("description", node.get("description", ""))}


def _resolve(root: Schema, node: Schema) -> Schema:
    while "$ref" in node:
        target: Schema = root
        for part in str(node["$ref"]).removeprefix("#/").split("/"):
            target = target[part]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return node
