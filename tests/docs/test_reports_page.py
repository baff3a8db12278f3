"""The page on reports names every key of a report and every figure of a version."""

import ast
import re
from pathlib import Path

from app.domain.models import Metrics
from app.domain.stats import Comparison

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")


def report_keys() -> set[str]:
    """Read the keys from the code that writes a report, and from what is added to it later."""
    package = ast.parse((ROOT / "worker" / "package.py").read_text(encoding="utf-8"))
    report = next(node for node in ast.walk(package) if isinstance(node, ast.FunctionDef) and node.name == "_report")
    written = next(node for node in ast.walk(report) if isinstance(node, ast.Return)).value
    assert isinstance(written, ast.Dict)
    return {ast.literal_eval(key) for key in written.keys if key} | {"gate", "repeats", "leak_check"}


def test_every_key_of_a_report_is_explained() -> None:
    keys = report_keys()
    assert {"metrics", "model", "speed"} <= keys
    assert [key for key in sorted(keys) if f"`{key}`" not in PAGE] == []


def test_every_figure_of_a_version_is_explained() -> None:
    told = {*re.findall(r"`([a-z0-9_]+)`", PAGE)}
    implied = {"accuracy_interval", "latency_ms_batch_1_p95", "latency_ms_batch_32_p95"}
    assert set(Metrics.model_fields) - told - implied == set()


def test_every_field_of_a_comparison_is_explained() -> None:
    fields = set(Comparison.__dataclass_fields__) - {"against", "interval", "verdict"}
    assert [field for field in sorted(fields) if f"`{field}`" not in PAGE] == []


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/reports.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
