"""The pages say what is there: version, settings, routes, metrics, commands; their examples are valid."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from app import __version__
from app.cli.main import EXIT_CODES, application
from app.domain import specs
from app.main import create_app
from app.metrics import Metrics
from app.settings import Settings

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
HTTP = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")}


def test_newest_entry_of_the_changelog_is_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d[^\]]*)\]", text, flags=re.MULTILINE)[0] == __version__


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    kind = Settings.model_fields[name].annotation
    nested = isinstance(kind, type) and issubclass(kind, BaseModel)
    names = [f"{name}__{part}" for part in kind.model_fields] if nested else [name]  # type: ignore[union-attr]
    missing = [f"LEANFUSE_{part.upper()}" for part in names if f"`LEANFUSE_{part.upper()}`" not in OPERATIONS]
    assert missing == []


def test_every_documented_setting_exists() -> None:
    known = set[str]()
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known |= {f"LEANFUSE_{name}__{part}".upper() for part in kind.model_fields}
        else:
            known.add(f"LEANFUSE_{name.upper()}")
    assert set(re.findall(r"`(LEANFUSE_[A-Z_]+)`", OPERATIONS)) - {"LEANFUSE_URL"} <= known


def test_every_route_is_documented() -> None:
    paths = create_app().openapi()["paths"]
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert [operation for operation in sorted(operations) if f"`{operation}`" not in HTTP] == []


def test_every_metric_is_documented() -> None:
    exposed = re.findall(r"^# TYPE (\w+)(?<!_created) ", Metrics().render({}).decode(), flags=re.MULTILINE)
    text = "".join(PAGES.values())
    assert len(exposed) > 5
    assert [name for name in exposed if f"`{name}`" not in text] == []


def test_every_documented_metric_exists() -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)(?<!_created) ", Metrics().render({}).decode(), flags=re.MULTILINE))
    parts = {f"{name}_{part}" for name in exposed for part in ("bucket", "sum", "count")}
    told = set(re.findall(r"`(leanfuse_[a-z_]+)`", PAGES[ROOT / "docs" / "serving.md"]))
    assert told - exposed - parts == set()


def test_every_example_of_the_pages_is_a_valid_spec() -> None:
    blocks = [block for text in PAGES.values() for block in re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)]
    examples = [block for block in blocks if block.lstrip().startswith('{"kind"')]
    assert len(examples) >= 3
    for example in examples:
        assert specs.submitted_spec_adapter.validate_json(example).name


def test_every_command_is_documented() -> None:
    root = get_command(application)
    commands = list[str]()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        commands += [f"{name} {part}" for part in getattr(command, "commands", {})] or [name]
    assert [command for command in commands if f"`leanfuse {command}`" not in CLI] == []
    assert [command for command in commands if f"\n$ leanfuse {command}" not in CLI] == []


@pytest.mark.parametrize("example", re.findall(r"^\$ leanfuse (.*?)(?: &)?$", CLI, flags=re.MULTILINE))
def test_every_example_of_a_command_can_be_typed(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forest.onnx").touch()
    command: Any = get_command(application)
    arguments = shlex.split(example)
    while commands := getattr(command, "commands", None):
        command, arguments = commands[arguments[0]], arguments[1:]
    command.make_context("leanfuse", arguments)


def test_every_exit_code_is_documented() -> None:
    assert all(f"| {code} |" in CLI for code in {0, *(code for _, code in EXIT_CODES)})


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *PAGES]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
