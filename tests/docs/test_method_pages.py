"""Every method has a page with its formula, when to use it, a job file and a figure."""

import re
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from app.domain import specs
from app.domain.predict_specs import PredictSpec
from app.domain.training_specs import Augmentation, TrainingSpec
from benchmarks.figures.__main__ import FIGURES, FOLDER, drawn
from benchmarks.methods.files import JOBS, named_models, read_jobs

METHODS = Path(__file__).parents[2] / "docs" / "methods"


def kinds_of(union: object) -> tuple[type[BaseModel], ...]:
    """Return the members of a discriminated union."""
    members: tuple[type[BaseModel], ...] = typing.get_args(typing.get_args(union)[0])
    return members


def named(union: object, field: str) -> list[str]:
    return [typing.get_args(kind.model_fields[field].annotation)[0] for kind in kinds_of(union)]


SUBMITTED = {"optimize", "ensemble"}
PAGES = [
    *named(specs.OptimizeMethod, "method"),
    *named(specs.EnsembleMethod, "method"),
    *(kind for kind in named(specs.SubmittedSpec, "kind") if kind not in SUBMITTED),
]


def page(name: str) -> str:
    return (METHODS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_every_method_has_a_page_with_formula_use_figure_and_source(name: str) -> None:
    text = page(name)
    assert re.search(r"## Formula\n.*\$\$.+?\$\$", text, flags=re.DOTALL)
    assert "\n## When to use it\n" in text
    assert "Traps:" in text or name == "import"
    assert f"](../images/methods/{name}.svg)" in text
    assert "\n## Sources\n" in text


@pytest.mark.parametrize("name", [name for name in PAGES if name != "import"])
def test_every_method_page_embeds_its_job_file(name: str) -> None:
    spec = read_jobs()[name]
    assert name in {spec["kind"], spec.get("method", {}).get("method")}
    assert f'--8<-- "jobs/{name}.json"' in page(name)
    assert f"leanfuse jobs submit docs/jobs/{name}.json" in page(name)


@pytest.mark.parametrize("name", PAGES)
def test_the_overview_leads_to_every_method(name: str) -> None:
    assert f"({name}.md)" in page("index")


def test_every_option_of_a_method_stands_on_its_page() -> None:
    missing = {
        (name, option)
        for union in (specs.OptimizeMethod, specs.EnsembleMethod)
        for kind, name in zip(kinds_of(union), named(union, "method"), strict=True)
        for option in kind.model_fields
        if f"`{option}`" not in page(name) and f'"{option}"' not in page(name) + (JOBS / f"{name}.json").read_text()
    }
    assert missing == set()


def test_every_job_file_is_a_valid_spec_that_names_only_models_of_the_others() -> None:
    jobs = read_jobs()
    made = {spec["name"] for spec in jobs.values()}
    for spec in jobs.values():
        assert specs.posted_spec_adapter.validate_python(spec).name == spec["name"]
        assert named_models(spec) <= made


def test_job_files_come_after_those_that_they_need() -> None:
    seen = set[str]()
    for spec in read_jobs().values():
        assert named_models(spec) <= seen
        seen.add(spec["name"])


def test_figures_are_those_that_the_measured_figures_give() -> None:
    assert set(FIGURES) == set(PAGES)
    for name, drawing in drawn().items():
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == drawing.svg(), (
            "run: python -m benchmarks.figures"
        )


@pytest.mark.parametrize("kind", [specs.TrainSpec, specs.SearchSpec, PredictSpec])
def test_every_option_of_a_kind_of_job_stands_on_its_page(kind: type[BaseModel]) -> None:
    name = typing.get_args(kind.model_fields["kind"].annotation)[0]
    own = kind.model_fields.keys() - specs.BaseSpec.model_fields.keys() - {"kind"}
    assert [option for option in sorted(own) if f"| `{option}` |" not in page(name)] == []


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (specs.BaseSpec, "jobs"),
        (specs.EnsembleSpec, "ensembles"),
        (TrainingSpec, "training"),
        (Augmentation, "training"),
    ],
)
def test_every_option_that_many_methods_share_stands_on_its_page(kind: type[BaseModel], where: str) -> None:
    text = (METHODS.parent / f"{where}.md").read_text(encoding="utf-8")
    inherited = specs.BaseSpec.model_fields.keys() if kind is specs.EnsembleSpec else set[str]()
    options = kind.model_fields.keys() - inherited - {"kind", "method"}
    assert [option for option in sorted(options) if f"`{option}`" not in text] == []
