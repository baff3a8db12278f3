"""The pages say what is there: version, settings, routes, job kinds, commands."""

import re
import shlex
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from app import __version__
from app.cli.main import EXIT_CODES, application
from app.domain import specs
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
HTTP = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
JOBS = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("union", ["OptimizeMethod", "EnsembleMethod"])
def test_every_method_is_documented_with_an_example(union: str) -> None:
    kinds = typing.get_args(typing.get_args(getattr(specs, union))[0])
    methods = [typing.get_args(kind.model_fields["method"].annotation)[0] for kind in kinds]
    assert [method for method in methods if f'"method": "{method}"' not in JOBS] == []


def test_every_example_of_the_jobs_page_is_a_valid_spec() -> None:
    examples = re.findall(r"```json\n(.*?)```", JOBS, flags=re.DOTALL)
    assert len(examples) >= 7
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
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
