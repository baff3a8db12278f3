"""The OpenAPI document that is committed is the one that is served, and no promise of it is broken unseen."""

import json
from copy import deepcopy
from typing import Any

import pytest

from tests.api.contract import document
from tests.api.snapshot import PLACE, broken_promises, render


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PLACE.read_text(encoding="utf-8"))
    return found


def test_the_committed_document_is_the_one_that_is_served(committed: dict[str, Any]) -> None:
    broken = broken_promises(committed, document())
    told = f" This breaks clients: {'; '.join(broken)}." if broken else ""
    same = PLACE.read_text(encoding="utf-8") == render()
    assert same, f"docs/openapi.json is not what the service says now: run `make openapi`, and commit it.{told}"


def test_an_operation_that_goes_or_asks_for_more_breaks_a_promise(committed: dict[str, Any]) -> None:
    assert broken_promises(committed, committed) == []
    changed = deepcopy(committed)
    del changed["paths"]["/livez"]
    changed["paths"]["/version"]["get"]["operationId"] = "other"
    listed = changed["paths"]["/v1/jobs"]["get"]
    listed["parameters"] = [{"name": "state", "in": "query", "required": True, "schema": {}}]
    assert broken_promises(committed, changed) == [
        "GET /livez is gone",
        "GET /v1/jobs needs query parameter state",
        *(
            f"GET /v1/jobs has lost query parameter {name}"
            for name in ("children", "kind", "name", "page_size", "page_token", "parent_id")
        ),
        "GET /version has another operationId",
    ]
    assert broken_promises(changed, committed) == ["GET /version has another operationId"]
