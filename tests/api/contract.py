"""What every answer of every test must keep: its operation documents the code, and a problem says what to do."""

import re
from functools import cache
from typing import Any

import httpx2 as httpx
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings

PROBLEM = "application/problem+json"


def held_client(app: FastAPI) -> TestClient:
    """Return a client of an application that checks every answer against the document."""
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    document()
    client.event_hooks["response"].append(check_answer)
    return client


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document, which is the same for every application of ours, and takes a while to make."""
    return create_app(Settings()).openapi()


def check_answer(answer: httpx.Response) -> None:
    """Check an answer against what its operation documents; a path that is none is only asked for a whole problem."""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    problem = read_problem(answer) if media_type == PROBLEM else None
    found = operation_of(answer.request.method, answer.request.url.path)
    if found is None:
        return
    path, operation = found
    name = f"{answer.request.method} {path}"
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, f"{name} does not document {answer.status_code}: {problem}"
    content = described.get("content", {})
    if answer.status_code >= 400 and media_type:
        assert media_type in content, f"{name} {answer.status_code} documents {set(content)}, not {media_type}"
    if problem is not None:
        slug = problem["type"].removeprefix("/problems/")
        assert slug in content[PROBLEM]["examples"], f"{name} {answer.status_code} does not document {slug}"


def read_problem(answer: httpx.Response) -> dict[str, Any]:
    """Return the problem that an answer is, which must say what happened and what to do."""
    answer.read()
    problem: dict[str, Any] = answer.json()
    assert problem["detail"].strip(), problem
    assert problem["hint"].strip(), problem
    assert all(field["detail"].strip() and field["pointer"][:1] in ("", "/") for field in problem["errors"]), problem
    return problem


def operation_of(method: str, path: str) -> tuple[str, dict[str, Any]] | None:
    """Return the path of the document that a path fits, and its operation; None for what is no operation."""
    paths = document()["paths"]
    fitting = [known for known in paths if pattern_of(known).fullmatch(path) and method.lower() in paths[known]]
    chosen = min(fitting, key=lambda known: known.count("{"), default=None)
    return None if chosen is None else (chosen, paths[chosen][method.lower()])


@cache
def pattern_of(path: str) -> re.Pattern[str]:
    def part(text: str) -> str:
        if text == "{path}":
            return ".+"
        return "[^/:]+" if text.startswith("{") else re.escape(text)

    return re.compile("".join(map(part, re.split(r"(\{[^}]*\})", path))))
