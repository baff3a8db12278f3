"""The dashboard and the alerts ask for metrics that there are, by labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "observability"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/leanfuse.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
# What Prometheus itself adds to what it scrapes.
SCRAPED = {"up": {"job", "instance"}}


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']} {target['refId']}", target["expr"]
    for rule in RULES:
        yield rule.get("alert") or rule["record"], rule["expr"]


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Return the names of all samples that the API exposes, with their labels."""
    metrics = Metrics()
    metrics.observe_request({"method": "GET"}, 200, 0.1)
    metrics.observe_prediction("digits", 1, queue_seconds=0.1, run_seconds=0.1)
    metrics.observe_batch("digits", 1, rows=3, seconds=0.1)
    metrics.count_failure("digits", 1, "overloaded")
    metrics.observe_load(0.1)
    text = metrics.render({("queued", "train"): 1}).decode()
    found: dict[str, set[str]] = {name: set(labels) for name, labels in SCRAPED.items()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("name", "expression"), list(expressions()), ids=lambda text: text[:60])
def test_metrics_and_labels_of_an_expression_exist(name: str, expression: str, exposed: dict[str, set[str]]) -> None:
    asked = re.findall(r"\b(leanfuse_\w+|up)\b(?:\{([^}]*)\})?", expression)
    assert asked, f"{name} asks for nothing of ours"
    labels = {
        label for metric, chosen in asked for label in re.findall(r"(\w+)\s*[=!]~?=?\s*\"", chosen) if metric in exposed
    }
    labels |= {label for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in re.findall(r"\w+", group)}
    assert [metric for metric, _ in asked if metric not in exposed] == []
    assert labels <= set.union(*(exposed[metric] for metric, _ in asked))


def test_every_metric_is_shown_somewhere(exposed: dict[str, set[str]]) -> None:
    shown = " ".join(expression for _, expression in expressions())
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in exposed}
    assert [family for family in sorted(families) if family not in shown] == []


def test_panels_have_names_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels overlap"
    assert max(x for x, _ in cells) < 24


def test_panels_read_the_source_that_is_provisioned() -> None:
    text = (FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    (source,) = yaml.safe_load(text)["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_the_service_and_reads_the_rules() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    assert (job["job_name"], job["static_configs"]) == ("leanfuse", [{"targets": ["api:8000"]}])
    assert config["rule_files"] == ["rules.yml"]


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    alerts = [rule for rule in RULES if "alert" in rule]
    assert len(alerts) >= 5
    for alert in alerts:
        assert set(alert["annotations"]) == {"summary", "description"}
        assert alert["labels"]["severity"] in {"critical", "warning"}
