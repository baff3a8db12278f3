"""The demo: the whole main job, over HTTP, as any client would run it."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from app.cli import render
from app.cli.follow import follow_jobs
from app.cli.plan import FUSIONS, NAMES, DatasetName, Spec, waves
from app.cli.stack import child, free_port, scaled_servers, wait_until_ready
from app.client import Client, Document, Job
from app.client.documents import PredictedRows, Report
from app.domain.errors import AlreadyExistsError

HOME = Path(".leanfuse/demo")
START_SECONDS = 60.0
MAXIMUM_LOSS = 0.02
SMALLER = (
    ("shared", "resnet", ("parameters", "weights_bytes", "served_bytes")),
    ("pruned", "cnn", ("parameters", "macs", "served_bytes")),
    ("int8", "cnn", ("served_bytes",)),
)
SHOWN_ROWS = 5
FAILED = 1
Stack: TypeAlias = Literal["embedded", "scaled"]


@dataclass(frozen=True)
class Result:
    """One version that the demo made, with its report."""

    name: str
    version: int
    kind: str
    report: Report

    @property
    def metrics(self) -> Document:
        """Return what was measured on the exported file."""
        return dict(self.report["metrics"])

    @property
    def baseline(self) -> Document | None:
        """Return the comparison with the model that this one must not fall behind."""
        return self.report.get("baseline")


class Check(NamedTuple):
    """Something that must hold at the end."""

    holds: bool
    text: str


def run_demo(dataset: DatasetName, stack: Stack, *, json_output: bool = False) -> int:
    """Run the demo in a fresh `.leanfuse/demo` and return its exit code: 0 when every check holds."""
    started = time.monotonic()
    with running_service(stack) as url, Client(url) as client:
        _say(f"The service runs on {url}. Adding the data set {dataset}.")
        _add(client, dataset)
        jobs = [job for wave in waves(dataset) for job in run_wave(client, wave)]
        results = [_result(client, job) for job in jobs if job["state"] == "succeeded"]
        checks = [_succeeded(job) for job in jobs] + judge(results)
        predictions = [_predict(client, dataset, result.name) for result in results if _is_fusion(result.name)]
        checks += [_check_predictions(answer, dataset) for answer in predictions]
        seconds = time.monotonic() - started
    if json_output:
        render.print_json(_summary(results, checks, seconds))
    else:
        _print(results, checks, predictions, seconds)
    return 0 if all(check.holds for check in checks) else FAILED


@contextmanager
def running_service(stack: Stack, *, home: Path = HOME, keep: bool = False) -> Iterator[str]:
    """Start `leanfuse up` on a free port with a fresh (or kept) home, wait until it is ready, and end it afterwards."""
    home = home.absolute()
    if not keep:
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{(port := free_port())}"
    with ExitStack() as resources:
        environment = {"LEANFUSE_HOME": str(home), "LEANFUSE_LOG_FORMAT": "json", "LEANFUSE_STORE_URL": ""}
        servers = {"LEANFUSE_DATABASE_URL": "", "LEANFUSE_BROKER_URL": ""}
        if stack == "scaled":
            _say("Starting PostgreSQL and Valkey.")
            servers = resources.enter_context(scaled_servers())
        command = [sys.executable, "-m", "app.cli.main", "up", "--host", "127.0.0.1", "--port", str(port)]
        log = home / "service.log"
        process = resources.enter_context(child(command, environment | servers, log=log))
        wait_until_ready(url, process, seconds=START_SECONDS, log=log)
        yield url


def run_wave(client: Client, specs: Sequence[Spec]) -> list[Job]:
    """Submit specs together, follow them until each is done, and return their jobs."""
    jobs = [client.jobs.submit(spec) for spec in specs]
    return follow_jobs(client, [job["id"] for job in jobs])


def judge(results: Sequence[Result]) -> list[Check]:
    """Return what must hold of the reports: no method far behind its baseline, and smaller where it says so."""
    checks = [_keeps_up(result, result.baseline) for result in results if result.baseline]
    by_name = {result.name: result for result in results}
    return checks + [
        _is_smaller(by_name[NAMES[small]], by_name[NAMES[large]], figure)
        for small, large, figures in SMALLER
        for figure in figures
        if NAMES[small] in by_name and NAMES[large] in by_name
    ]


def _keeps_up(result: Result, baseline: Document) -> Check:
    difference = float(baseline["difference"])
    text = f"{result.name} stands {100 * difference:+.1f} points to {baseline['against']}"
    return Check(difference >= -MAXIMUM_LOSS, text)


def _is_smaller(small: Result, large: Result, figure: str) -> Check:
    before, after = large.metrics[figure], small.metrics[figure]
    return Check(after < before, f"{small.name} is smaller than {large.name}: {figure} {before:,} to {after:,}")


def _succeeded(job: Mapping[str, Any]) -> Check:
    detail = f": {job['error']['detail']}" if job.get("error") else ""
    return Check(job["state"] == "succeeded", f"{render.job_name(job)} {job['state']}{detail}")


def _check_predictions(answer: PredictedRows, dataset: str) -> Check:
    count = len(answer["predictions"])
    return Check(count == SHOWN_ROWS, f"{answer['model']}/{answer['version']} predicted {count} rows of {dataset}")


def _add(client: Client, dataset: DatasetName) -> None:
    with suppress(AlreadyExistsError):
        client.datasets.add_builtin(dataset)


def _result(client: Client, job: Document) -> Result:
    made = job["result"]
    report = client.models.report(made["name"], made["version"])
    return Result(made["name"], made["version"], render.job_kind(job), report)


def _is_fusion(name: str) -> bool:
    return name in {NAMES[key] for key in FUSIONS}


def _predict(client: Client, dataset: str, name: str) -> PredictedRows:
    return client.ensembles.predictions(
        f"{name}@champion", dataset=dataset, limit=SHOWN_ROWS, members=True, uncertainty=True
    )


def _summary(results: Sequence[Result], checks: Sequence[Check], seconds: float) -> Document:
    leaderboard = [
        {"model": result.name, "kind": result.kind, "metrics": result.metrics, "baseline": result.baseline}
        for result in results
    ]
    return {"seconds": round(seconds, 1), "leaderboard": leaderboard, "checks": [check._asdict() for check in checks]}


def _print(
    results: Sequence[Result], checks: Sequence[Check], predictions: Sequence[PredictedRows], seconds: float
) -> None:
    columns = ("model", "made by", "accuracy % [95 %]", "parameters>", "ONNX>", "ms, batch 1>", "against its baseline")
    ranked = sorted(results, key=lambda result: -(result.metrics.get("accuracy") or 0))
    render.print_table(columns, map(_row, ranked), title="Leaderboard, measured on the report rows")
    for answer in predictions:
        shown = ", ".join(str(_answer(prediction)) for prediction in answer["predictions"])
        render.console().print(f"GET /v1/ensembles/{answer['model']}/predictions: {shown}")
    for check in checks:
        mark = "[green]holds[/]" if check.holds else "[red]FAILS[/]"
        render.console().print(f"{mark}  {check.text}", soft_wrap=True)
    _say(f"Done in {seconds:.0f} s.")


def _row(result: Result) -> tuple[str, ...]:
    metrics, baseline = result.metrics, result.baseline
    verdict = ""
    if baseline:
        verdict = f"{100 * float(baseline['difference']):+.1f} to {baseline['against']}: {baseline['verdict']}"
    return (
        result.name,
        result.kind,
        render.with_interval(metrics.get("accuracy"), metrics.get("accuracy_interval")),
        f"{metrics['parameters']:,}",
        render.size(metrics["served_bytes"]),
        f"{metrics['latency_ms_batch_1']:.3f}",
        verdict,
    )


def _answer(prediction: object) -> object:
    return prediction.get("label", prediction) if isinstance(prediction, dict) else prediction


def _say(text: str) -> None:
    render.console(stderr=True).print(text)
