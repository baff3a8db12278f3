"""Read request bodies strictly: what JSON forbids, PostgreSQL cannot store or clients read differently is refused."""

import json
import re
from typing import Any, TypeAlias, TypeVar

import orjson
from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers

from app.domain import errors, request_errors
from app.domain.explain import explain_validation

Body = TypeVar("Body")
Json: TypeAlias = Any
MOST_NESTED = 64
_JSON_TYPE = re.compile(r"application/([a-z0-9.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)
_INT64_DIGITS = 19
_KEY = re.compile(rb'"(\w+)"\s*:')
_LONG_INTEGER = re.compile(rb"\d{19}(?![^\],}\s]*[.eE])")


async def read_json(request: Request) -> bytes:
    """Return the body, which was checked to be strict JSON in UTF-8."""
    check_media_type(request, _JSON_TYPE, "application/json")
    body = await request.body()
    check_json(body)
    return body


async def read_small_json(request: Request, most_bytes: int) -> Json:
    """Return the value of strict JSON where larger bodies of another kind are welcome too."""
    check_media_type(request, _JSON_TYPE, "application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise errors.PayloadTooLargeError(
                f"The body is larger than {most_bytes:,} bytes, the limit of JSON.", hint="Upload files as a form."
            )
    return check_json(bytes(body))


async def read_model(request: Request, adapter: TypeAdapter[Body]) -> Body:
    """Return the body as a model; raise the error that names each wrong field."""
    body = await read_json(request)
    try:
        return adapter.validate_json(body)
    except ValidationError as invalid:
        raise explain_validation(invalid.errors(include_url=False), adapter.json_schema()) from None


def check_media_type(request: Request, pattern: re.Pattern[str], expected: str) -> None:
    """Refuse a body of another media type, or one that is compressed."""
    given = request.headers.get("content-type", "")
    if not pattern.fullmatch(given.strip()):
        raise errors.UnsupportedMediaTypeError(
            f"The body has the media type {given[:80]!r}." if given else "The body has no media type.",
            hint=f"Send `Content-Type: {expected}`.",
        )
    check_encoding(request.headers)


def check_encoding(headers: Headers) -> None:
    """Refuse a body that is compressed."""
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise errors.UnsupportedMediaTypeError(
            f"The body has the encoding {encoding[:40]!r}.", hint="Send the body without compression."
        )


def check_json(body: bytes, *, only_finite: bool = True) -> Json:
    """Return the value of strict JSON.

    Raise MalformedJsonError for a broken document, a key given twice, or nesting beyond 64; NonFiniteNumberError for
    NaN, Infinity and 1e999, which `only_finite=False` lets through; NumberOutOfRangeError beyond 64 bits;
    InvalidStringError for U+0000 and lone surrogates.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_refuse_twins,
            parse_constant=_refuse_constant if only_finite else float,
            parse_float=_finite if only_finite else float,
            parse_int=_int64,
        )
    except UnicodeDecodeError:
        raise errors.MalformedJsonError("The body is not UTF-8.", hint="Send JSON in UTF-8 without a mark.") from None
    except json.JSONDecodeError as broken:
        raise errors.MalformedJsonError(
            f"The body is not JSON: {broken.msg} at line {broken.lineno}, column {broken.colno}.",
            hint="Send one complete JSON document.",
        ) from None
    except RecursionError:
        raise _too_deep() from None
    _check_values(value)
    return value


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise errors.MalformedJsonError(f"The key {twin[:80]!r} occurs twice in one object.", hint="Send it once.")
    return found


def _refuse_constant(text: str) -> float:
    raise request_errors.NonFiniteNumberError(f"The body contains {text}.", hint="JSON has only finite numbers.")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        return _refuse_constant(text[:40])
    return number


def _int64(text: str) -> int:
    if len(text) <= _INT64_DIGITS + 1:
        number = int(text)
        if -(2**63) <= number < 2**63:
            return number
    raise request_errors.NumberOutOfRangeError(
        f"The integer {text[:24]} does not fit 64 bits.", hint="Send a smaller number."
    )


def _too_deep() -> errors.MalformedJsonError:
    return errors.MalformedJsonError(f"The body is nested more than {MOST_NESTED} levels deep.", hint="Nest it less.")


def _check_values(value: Json) -> None:
    """Walk level by level, so that the depth costs no recursion."""
    level = [value]
    for _ in range(MOST_NESTED + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                check_text(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, dict):
                for key in item:
                    check_text(key)
                below.extend(item.values())
        if not below:
            return
        level = below
    raise _too_deep()


def check_text(text: str) -> None:
    """Raise InvalidStringError for what PostgreSQL cannot store."""
    if "\x00" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise request_errors.InvalidStringError(
            "A string holds U+0000 or half of a surrogate pair.", hint="Send text that can be stored as UTF-8."
        )


def read_loosely(body: bytes) -> Json:
    """Return the value of a prediction's JSON, the fast way; NaN is let through, to be refused with its index.

    Keys that occur twice and long integers are left to the strict reader, which says what is wrong with them.
    """
    keys = _KEY.findall(body)
    if len(set(keys)) == len(keys) and not _LONG_INTEGER.search(body):
        return read_tensors(body)
    return check_json(body, only_finite=False)


def read_tensors(body: bytes) -> Json:
    """Return the value of JSON whose objects repeat keys and whose integers may have all of 64 bits, the fast way."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return check_json(body, only_finite=False)
