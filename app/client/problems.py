"""Problem documents (RFC 9457), raised as the errors that they name."""

from collections.abc import Mapping
from typing import Any

import httpx

from app.domain import errors
from app.domain.error_tree import all_errors


def error_from(response: httpx.Response) -> errors.LeanfuseError:
    """Return the error that a problem document (RFC 9457) names; an unknown slug becomes one of its HTTP code."""
    return error_of_problem({"status": response.status_code, **_problem(response)})


def error_of_problem(problem: Mapping[str, Any]) -> errors.LeanfuseError:
    """Return the error that a problem document describes."""
    slug = str(problem.get("type") or problem.get("slug") or "").rpartition("/")[2]
    kind = _error_kind(slug, int(problem.get("status", 0)))
    fields = [errors.FieldError(item["pointer"], item["detail"], item["type"]) for item in problem.get("errors") or ()]
    return kind(str(problem.get("detail", "")), hint=str(problem.get("hint", "")), errors=fields)


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        # The Open Inference Protocol says in one text what is wrong.
        return {"detail": problem["error"], **problem} if isinstance(problem.get("error"), str) else problem
    return {"detail": f"{response.request.method} {response.request.url} answered {response.status_code}."}


def _error_kind(slug: str, code: int) -> type[errors.LeanfuseError]:
    kinds = list(all_errors())
    exact = next((kind for kind in kinds if kind.slug == slug), None)
    return exact or next((kind for kind in kinds if kind.code == code), errors.LeanfuseError)
