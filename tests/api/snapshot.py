"""The committed OpenAPI document: `python -m tests.api.snapshot` (or `make openapi`) writes docs/openapi.json anew."""

import json
from typing import Any

from app.main import create_app
from app.settings import Settings
from tests.api.builders import ROOT

PLACE = ROOT / "docs" / "openapi.json"


def render() -> str:
    document = create_app(Settings()).openapi()
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def broken_promises(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what a client of the old document may rely on, and the new one no longer gives."""
    broken = []
    for path, item in old["paths"].items():
        for method, operation in item.items():
            now = new["paths"].get(path, {}).get(method)
            name = f"{method.upper()} {path}"
            if now is None:
                broken.append(f"{name} is gone")
                continue
            if operation["operationId"] != now["operationId"]:
                broken.append(f"{name} has another operationId")
            broken += [f"{name} needs {each}" for each in sorted(needed(now) - needed(operation))]
            broken += [f"{name} has lost {each}" for each in sorted(parameters(operation) - parameters(now))]
    return broken


def parameters(operation: dict[str, Any]) -> set[str]:
    return {f"{each['in']} parameter {each['name']}" for each in operation.get("parameters", ())}


def needed(operation: dict[str, Any]) -> set[str]:
    body = {"a body"} if operation.get("requestBody", {}).get("required") else set()
    required = [each for each in operation.get("parameters", ()) if each.get("required")]
    return body | {f"{each['in']} parameter {each['name']}" for each in required}


if __name__ == "__main__":
    PLACE.write_text(render(), encoding="utf-8")
