"""How things look in a terminal: tables and numbers on stdout, errors and talk on stderr."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from app.domain.errors import LeanfuseError

if TYPE_CHECKING:
    from rich.console import Console

STATE_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "dim"}
PIPE_COLUMNS = 240
_quiet = ContextVar("quiet", default=False)


@contextmanager
def talking(*, quiet: bool) -> Iterator[None]:
    """Run a command that talks on stderr, or keeps quiet."""
    token = _quiet.set(quiet)
    try:
        yield
    finally:
        _quiet.reset(token)


def console(*, stderr: bool = False) -> "Console":
    """Return a console; without a terminal it is wide and plain, so that output can be piped."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(stderr=stderr, highlight=False, width=width, quiet=stderr and _quiet.get())


def is_animated() -> bool:
    """Tell whether stderr may move and be coloured: on a terminal, unless NO_COLOR or --quiet asks for less."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and not console(stderr=True).is_dumb_terminal


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write one JSON document on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_error(error: LeanfuseError, *, as_json: bool = False) -> None:
    """Write an error's title, detail, wrong fields and hint, or all of it as one JSON problem."""
    if as_json:
        sys.stderr.write(json.dumps(_problem_of(error), ensure_ascii=False) + "\n")
        return
    from rich.markup import escape

    lines = [f"[bold red]{escape(error.title)}[/]", escape(error.detail)]
    told = [field for field in error.errors if field.detail not in error.detail]
    lines += [f"  {escape(field.pointer)}: {escape(field.detail)}" for field in told]
    if error.hint:
        lines.append(f"[dim]hint:[/] {escape(error.hint)}")
    with talking(quiet=False):
        console(stderr=True).print("\n".join(lines), soft_wrap=True)


def _problem_of(error: LeanfuseError) -> dict[str, Any]:
    return {
        "type": f"/problems/{error.slug}",
        "title": error.title,
        "status": error.code,
        "detail": error.detail,
        "hint": error.hint,
        "errors": [field._asdict() for field in error.errors],
    }


def say(text: str) -> None:
    """Talk: a line on stderr, unless somebody asked for quiet."""
    console(stderr=True).print(text, soft_wrap=True, markup=False)


def print_line(text: str) -> None:
    """Write a line of data as it is."""
    console().print(text, soft_wrap=True, markup=False)


def event_line(name: str, data: Mapping[str, Any]) -> str:
    """Return one line of a job's log: what it says, how its state changes, its figures."""
    at = str(data.get("at", ""))[11:19]
    if name == "log":
        return f"{at} {data.get('text', '')}"
    if name in {"state", "done"}:
        return f"{at} {name}: {data.get('state', '')}"
    if name == "metric":
        values = data.get("values", data)
        shown = "  ".join(f"{key} {value:.4g}" for key, value in values.items() if isinstance(value, float))
        return f"{at} epoch {data.get('epoch', '')}: {shown}"
    return ""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Write a table; columns whose name ends in ">" are aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Write names and values, one pair a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        console().print(f"[dim]{name:<{width}}[/]  {value}", soft_wrap=True)


def print_job(job: Mapping[str, Any]) -> None:
    """Write one job with its result or its error."""
    fields = {
        "job": job["id"],
        "name": job_name(job),
        "kind": job_kind(job),
        "state": styled_state(job["state"]),
        "progress": progress_text(job),
        "result": result_reference(job),
        "created": job.get("created_at") or "",
        "finished": job.get("finished_at") or "",
    }
    print_fields({name: value for name, value in fields.items() if value})
    if job.get("error"):
        print_error(job_error(job))


def job_error(job: Mapping[str, Any]) -> LeanfuseError:
    """Return the error that a failed job carries as a problem."""
    from app.client import error_of_problem

    return error_of_problem(job["error"])


def job_name(job: Mapping[str, Any]) -> str:
    """Return the model name that a job registers under."""
    return str(job.get("name") or job.get("spec", {}).get("name", ""))


def job_kind(job: Mapping[str, Any]) -> str:
    """Return kind and method: "train", "optimize distill"."""
    spec = job.get("spec", {})
    method = job.get("method") or spec.get("method", {}).get("method")
    return " ".join(filter(None, [job.get("kind") or spec.get("kind"), method]))


def result_reference(job: Mapping[str, Any]) -> str:
    """Return the reference of the version that a job made, as the other commands take it."""
    result = job.get("result")
    if not result:
        return ""
    if not isinstance(result, Mapping):
        return str(result)
    if "url" in result and result["url"].endswith("/result"):
        return f"{result['rows']:,} rows, {result['format']}"
    rejected = " (rejected)" if result.get("state") == "rejected" else ""
    return f"{result['name']}/{result['version']}{rejected}"


def progress_text(job: Mapping[str, Any]) -> str:
    """Return the done part of a job in percent."""
    progress = job.get("progress") or {}
    total = progress.get("total_steps") or 0
    return f"{100 * progress.get('step', 0) / total:.0f} %" if total else ""


def styled_state(state: str) -> str:
    """Return a state in its colour."""
    return f"[{STATE_STYLES.get(state, 'default')}]{state}[/]"


def percent(share: float | None, *, digits: int = 1) -> str:
    """Write a share as a percentage, or nothing."""
    return "" if share is None else f"{100 * share:.{digits}f}"


def with_interval(share: float | None, interval: Sequence[float] | None) -> str:
    """Write a share with its confidence interval, in percent."""
    if share is None or not interval:
        return percent(share)
    return f"{percent(share)} [{percent(interval[0])}, {percent(interval[1])}]"


def figure(value: float | None) -> str:
    """Write a number with four digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def size(count: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
