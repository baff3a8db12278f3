"""Write a model card (Mitchell et al. 2019, "Model Cards for Model Reporting") from what the service knows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from app.cli.render import figure, size
from app.client.documents import Dataset, Lineage, Plot, Report, Version

MOST_CLASSES = 20
COMPARED = ("against", "difference", "95 % interval", "p, adjusted", "verdict")


class Subject(NamedTuple):
    """Hold all that a card tells of one version."""

    version: Version
    description: str
    report: Report
    lineage: Lineage
    dataset: Dataset | None
    plots: Sequence[Plot]


def model_card(subject: Subject) -> str:
    """Return the card of a version in Markdown."""
    parts = (
        _title(subject),
        _details(subject),
        _use(subject),
        _data(subject),
        _metrics(subject),
        _comparisons(subject),
        _sizes(subject),
        _plots(subject),
        _lineage(subject),
        _limits(subject),
        _run(subject),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(subject: Subject) -> str:
    version = subject.version
    told = f"# {version['name']}/{version['version']}"
    if version["rejected"]:
        reason = _sentence(version["rejected"])
        told += f"\n\n> **Rejected** by its gate: {reason} It is not served under a name without a number."
    return told


def _details(subject: Subject) -> str:
    version = subject.version
    shape = " x ".join(map(str, version["input"]["shape"][1:]))
    rows = {
        "made by": f"`{version['method']}` ({version['kind']}), seed {version['seed']}",
        "task": version["task"],
        "input": f"`x`, {version['input']['dtype']}, a row of {shape}",
        "answer": _answer(version),
        "registered": version["created_at"],
        "aliases": ", ".join(version["aliases"]) or "none",
        "tags": ", ".join(f"{key}: {value}" for key, value in version["tags"].items()),
        "digest": f"`{version['digest']}`",
    }
    return "## Model details\n\n" + _table(("", ""), ((name, text) for name, text in rows.items() if text))


def _answer(version: Version) -> str:
    if version["task"] != "classification":
        return "`prediction`, one number"
    classes = version["classes"]
    named = ", ".join(classes[:MOST_CLASSES]) + (" and others" if len(classes) > MOST_CLASSES else "")
    return f"`probabilities`, one of {len(classes)} classes: {named}"


def _use(subject: Subject) -> str:
    version = subject.version
    does = "tells the class of" if version["task"] == "classification" else "estimates a number for"
    lines = [subject.description] if subject.description else []
    lines.append(
        f"The model {does} rows that are like those of the data set `{version['dataset']}`. Rows of another origin are "
        "out of its scope until it has been measured on them: `leanfuse predict` with `--dataset` answers rows of any "
        "registered data set of the same shape."
    )
    return "## Intended use\n\n" + "\n\n".join(lines)


def _data(subject: Subject) -> str:
    version, dataset = subject.version, subject.dataset
    lines = [f"`{version['dataset']}`, digest `{version['dataset_digest']}`."]
    if dataset is not None:
        schema = dataset["schema"]
        counts = ((name, f"{schema['rows'].get(name, 0):,}", told) for name, told in _SETS.items())
        lines.append(_table(("rows", "number>", "for"), counts))
        lines += [" ".join(dataset["notes"])] if dataset["notes"] else []
        if dataset["digest"] != version["dataset_digest"]:
            lines.append("The data set of this name has changed since: these counts are of its present content.")
    return "## Data\n\n" + "\n\n".join(lines)


_SETS = {
    "train": "fitting",
    "selection": "stopping early, choosing, calibrating",
    "report": "every figure of this card; neither training nor any choice has seen them",
}


def _metrics(subject: Subject) -> str:
    metrics, report = subject.version["metrics"], subject.report
    rows = [
        ("accuracy", _share(metrics["accuracy"]), _interval(metrics["accuracy_interval"])),
        ("negative log-likelihood, nats", figure(metrics["nll"]), ""),
        ("Brier score", figure(metrics["brier"]), ""),
        ("expected calibration error", figure(metrics["ece"]), ""),
        ("RMSE", figure(metrics["rmse"]), ""),
    ]
    quality = report.get("quality") or {}
    rows += [(name, figure(quality.get(key)), "") for key, name in _QUALITIES.items()]
    shown = _table(("", "value>", "95 % interval"), (row for row in rows if row[1]))
    counted = f"On {report['report_rows']:,} report rows. " if isinstance(report.get("report_rows"), int) else ""
    told = f"{counted}Every figure is measured on the exported file."
    return "\n\n".join(filter(None, ["## Metrics", told, shown, _by_class(subject), _repeats(report)]))


_QUALITIES = {
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "matthews_correlation": "Matthews correlation",
    "mae": "MAE",
    "r2": "R²",
}


def _by_class(subject: Subject) -> str:
    found = (subject.report.get("quality") or {}).get("by_class")
    entries = list(found.items()) if isinstance(found, Mapping) else [(item.get("label"), item) for item in found or ()]
    if not entries:
        return ""
    columns = ("class", "precision>", "recall>", "F1>", "rows>")
    names = dict(enumerate(subject.version["classes"]))
    rows = (
        (
            str(label if label is not None else names.get(index, index)),
            *(figure(values.get(key)) for key in ("precision", "recall", "f1")),
            str(values.get("support", "")),
        )
        for index, (label, values) in enumerate(entries[:MOST_CLASSES])
    )
    return "### Factors: by class\n\n" + _table(columns, rows)


def _repeats(report: Report) -> str:
    repeats = report.get("repeats")
    if not repeats:
        return ""
    return f"The job was trained {repeats.get('trainings', 'several')} times; this is the first training, not the best."


def _comparisons(subject: Subject) -> str:
    report = subject.report
    baseline = report.get("baseline")
    found = report.get("comparisons") or ([baseline] if baseline else [])
    if not found:
        return ""
    rows = (
        (
            str(item.get("against", "")),
            f"{item['difference']:+.4g}" if item.get("difference") is not None else "",
            _plain_interval(item.get("interval")),
            figure(item.get("adjusted_p_value", item.get("p_value"))),
            str(item.get("verdict", "")),
        )
        for item in found
    )
    lines = ["## Comparisons", "Both models answer the same report rows; above 0 this one is better."]
    lines.append(_table(COMPARED, rows))
    if gate := report.get("gate"):
        outcome = "passed" if gate.get("passed") else "not passed"
        bound = gate.get("lower_bound")
        lines.append(f"Gate: {outcome}" + (f", lower bound {bound:+.4g}." if isinstance(bound, int | float) else "."))
    return "\n\n".join(lines)


def _sizes(subject: Subject) -> str:
    metrics, speed = subject.version["metrics"], subject.report.get("speed") or {}
    rows = [
        ("parameters", f"{metrics['parameters']:,}"),
        ("multiply-accumulates a row", f"{metrics['macs']:,}"),
        ("served file", size(metrics["served_bytes"])),
        ("under gzip", "" if metrics["gzip_bytes"] is None else size(metrics["gzip_bytes"])),
        ("float weights", size(metrics["weights_bytes"]) if metrics["weights_bytes"] else ""),
        ("latency, 1 row", _latency(metrics["latency_ms_batch_1"], metrics["latency_ms_batch_1_p95"])),
        ("latency, 32 rows", _latency(metrics["latency_ms_batch_32"], metrics["latency_ms_batch_32_p95"])),
        ("rows a second", "" if metrics["rows_per_second"] is None else f"{metrics['rows_per_second']:,.0f}"),
        ("peak memory", "" if metrics["peak_memory_bytes"] is None else size(metrics["peak_memory_bytes"])),
        ("time, 1 row", _speed(speed, 1)),
        ("time, 32 rows", _speed(speed, 32)),
    ]
    return "## Size and speed\n\n" + _table(("", ""), (row for row in rows if row[1]))


def _latency(median: float, p95: float | None) -> str:
    return f"{median:.3f} ms" + (f" (95th percentile {p95:.3f} ms)" if p95 is not None else "") + ", one thread"


def _speed(speed: Mapping[str, Any], rows: int) -> str:
    verdict = speed.get(f"verdict_batch_{rows}")
    return f"{verdict}, {speed[f'ratio_batch_{rows}']:.2f} times the speed of {speed['against']}" if verdict else ""


def _plots(subject: Subject) -> str:
    if not subject.plots:
        return ""
    shown = [f"![{plot['title']}](plots/{plot['name']}.svg)" for plot in subject.plots]
    return "## Plots\n\n" + "\n\n".join(shown)


def _lineage(subject: Subject) -> str:
    lines = [
        f"- {link['role']}: {link['name']}/{link['version']}{_weight(link)}" for link in subject.lineage["made_from"]
    ]
    lines += [f"- used by {link['name']}/{link['version']} as {link['role']}" for link in subject.lineage["used_by"]]
    lines.append(f"- registered by the job `{subject.version['job_id']}`")
    return "## Lineage\n\n" + "\n".join(lines)


def _weight(link: Mapping[str, Any]) -> str:
    return "" if link["weight"] is None else f", weight {link['weight']:.3g}"


def _limits(subject: Subject) -> str:
    report, version = subject.report, subject.version
    lines = list(_measured_limits(report, version))
    lines += [
        "Intervals are over the report rows; another training or other rows may differ by more.",
        "No figure is broken down by groups of people, and nothing here says that the model treats them alike. Where "
        "its answers touch people, measure that on data that says who they are before it is used.",
        "Times are those of the machine that measured them" + (f" ({_machine(report)})." if _machine(report) else "."),
    ]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _measured_limits(report: Report, version: Version) -> Iterator[str]:
    if version["rejected"]:
        yield f"It failed its gate: {_sentence(version['rejected'])}"
    baseline = report.get("baseline") or {}
    if isinstance(baseline.get("smallest_shown"), int | float):
        yield f"The smallest true difference that these rows would show is {baseline['smallest_shown']:.4g}."
    ece = version["metrics"]["ece"]
    if ece is not None:
        yield f"Its probabilities are off by {ece:.3g} on average (expected calibration error)."
    parity = (report.get("parity") or {}).get("largest_difference")
    if isinstance(parity, int | float):
        yield f"The graph answers like the trained model to within {parity:.2g}."


def _machine(report: Report) -> str:
    environment = report.get("environment") or {}
    known = (environment.get(name) for name in ("processor", "cpu", "machine"))
    return next((str(value) for value in known if value), "")


def _run(subject: Subject) -> str:
    pinned = f"{subject.version['name']}/{subject.version['version']}"
    return f"""## How to run it

```sh
pip install -r requirements.txt     # numpy and onnxruntime
python predict.py rows.npy          # or rows.json, or - for stdin; one line of JSON for each row
```

```python
from predict import Model

probabilities = Model().predict(rows)
```

The same version on a running service: `leanfuse predict {pinned} rows.npy`."""


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _interval(interval: Sequence[float] | None) -> str:
    return "" if not interval else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f} %"


def _plain_interval(interval: Sequence[float] | None) -> str:
    return "" if not interval else f"{interval[0]:+.4g} to {interval[1]:+.4g}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; columns whose name ends in ">" are aligned to the right."""
    heads = [column.removesuffix(">") for column in columns]
    marks = ["---:" if column.endswith(">") else "---" for column in columns]
    lines = [heads, marks, *([_cell(text) for text in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
