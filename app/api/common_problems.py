"""The problems that operations share: the document lists for each operation every problem that it can answer."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from app.api.problems import Responses, problem_body
from app.domain import errors, request_errors
from app.domain.error_tree import all_errors
from app.domain.errors import FieldError, LeanfuseError
from app.domain.names import NAME_PATTERN
from app.domain.store_errors import StoreUnavailableError

Document = dict[str, Any]
_EXAMPLE_REQUEST = "4f1c2a9be07d3368"
# These answer whatever becomes of the database.
_WITHOUT_DATABASE = frozenset(
    (
        *("/livez", "/version", "/metrics", "/problems", "/problems/{slug}", "/readyz", "/api/3.0/mlflow/server-info"),
        *("/v2", "/v2/", "/v2/health/live", "/v2/models", "/v2/models/stats"),
    )
)
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "maxItems")
_CHECKED_BY_HAND = frozenset({"Idempotency-Key"})
# What a user meets most often, as the service really says it.
_TELLING: Mapping[type[LeanfuseError], LeanfuseError] = {
    error.__class__: error
    for error in (
        errors.OutOfRangeError(
            "/training/epochs: 0 is out of range.",
            hint="Allowed: at least 1 and at most 10,000.",
            errors=[FieldError("/training/epochs", "0 is out of range.", "out-of-range")],
        ),
        errors.UnknownFieldError(
            "/training/epoch: There is no field `epoch` here.",
            hint="Did you mean `epochs`? Allowed: epochs, batch_size, optimizer, schedule.",
            errors=[FieldError("/training/epoch", "There is no field `epoch` here.", "unknown-field")],
        ),
        errors.ModelNotFoundError("There is no model 'digit-cnn'.", hint="`leanfuse models ls` lists the models."),
    )
}


def problem_examples() -> Document:
    """Return an example of every kind of problem, by slug."""
    return {kind.slug: {"summary": kind.title, "value": _example(kind)} for kind in all_errors()}


def _example(kind: type[LeanfuseError]) -> Document:
    meaning = " ".join((kind.__doc__ or "").split())
    return problem_body(_TELLING.get(kind, kind(meaning)), _EXAMPLE_REQUEST)


def add_common_problems(path: str, operation: Document, describe: Callable[..., Responses]) -> None:
    """List what every operation of its kind may answer beside what it lists itself, in the form of its protocol."""
    # Operations share what they declare, and each gets errors of its own.
    responses = deepcopy(operation["responses"])
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
    for code, response in describe(*dict.fromkeys(_common(path, operation))).items():
        _merge(responses, str(code), response)
    operation["responses"] = dict(sorted(responses.items()))


def _merge(responses: Document, code: str, more: Document) -> None:
    known = responses.setdefault(code, more)
    told = known["description"].split("; ")
    known["description"] = "; ".join([*told, *(part for part in more["description"].split("; ") if part not in told)])
    for media_type, content in more["content"].items():
        shown = known.setdefault("content", {}).setdefault(media_type, content)
        if "examples" in content:
            shown["examples"] = {**shown.get("examples", {}), **content["examples"]}


def _common(path: str, operation: Document) -> Iterator[type[LeanfuseError]]:
    yield from (request_errors.InvalidHostError, LeanfuseError)
    if path not in _WITHOUT_DATABASE:
        yield errors.DatabaseUnavailableError
    # Whoever reads an artifact may find that it is damaged, or that the store is away.
    if any(errors.ArtifactCorruptedError.slug in told["description"] for told in operation["responses"].values()):
        yield StoreUnavailableError
    if "requestBody" in operation:
        yield errors.PayloadTooLargeError
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        yield errors.NotFoundError
    for parameter in operation.get("parameters", ()):
        if parameter["in"] != "path" and parameter["name"] not in _CHECKED_BY_HAND:
            yield from _of_parameter(parameter["schema"])


def _of_parameter(schema: Document) -> Iterator[type[LeanfuseError]]:
    choices = [schema, *schema.get("anyOf", ()), schema.get("items", {})]
    if any(choice.get("type") in ("integer", "number", "boolean") or "format" in choice for choice in choices):
        yield errors.InvalidRequestError
    if any(bound in choice for choice in choices for bound in _BOUNDS):
        yield errors.OutOfRangeError
    if any(choice.get("pattern") == NAME_PATTERN for choice in choices):
        yield errors.InvalidNameError
    if any("enum" in choice or "const" in choice for choice in choices):
        yield errors.UnknownComponentError
