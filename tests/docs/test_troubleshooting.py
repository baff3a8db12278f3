"""The page on troubleshooting has every kind of problem, in the words of its class."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from app.domain.error_tree import all_errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


@pytest.fixture(name="writer", scope="module")
def load_writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("troubleshooting", ROOT / ".ci" / "troubleshooting.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_of_problem_has_its_place() -> None:
    slugs = {kind.slug for kind in all_errors()}
    assert len(slugs) > 50
    assert [slug for slug in sorted(slugs) if f"\n### {slug}\n" not in PAGE] == []


def test_the_page_says_what_the_classes_say(writer: ModuleType) -> None:
    assert writer.page() == PAGE, "run: python .ci/troubleshooting.py"
