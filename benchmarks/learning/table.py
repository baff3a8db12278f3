"""Write what was measured as a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.learning.rows import Row

HEAD = (
    "| row | published | plain scripts | ours, 95 % interval | to show | measured | holds |",
    "|---|---|---|---|---|---|---|",
)


def page(rows: Sequence[Row], results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table in Markdown; rows that were not run are left out."""
    lines = [line for row in rows if row.name in results for line in _lines(row, results[row.name])]
    return "\n".join((*HEAD, *lines)) + "\n"


def _lines(row: Row, result: Mapping[str, Any]) -> Iterator[str]:
    low, high = result["interval"]
    seeds = f", {result['seeds']} seeds" if result["seeds"] > 1 else ""
    ours = f"{result['accuracy']:.2f} ({low:.2f} to {high:.2f}{seeds})"
    first = (f"{row.title} (`{row.name}`)", row.published, row.scripts, ours)
    claims = result["claims"] or [{"text": row.target, "measured": "", "holds": None}]
    for index, claim in enumerate(claims):
        mark = {True: "yes", False: "**no**", None: ""}[claim["holds"]]
        cells = (*(first if index == 0 else ("", "", "", "")), claim["text"], claim["measured"], mark)
        yield f"| {' | '.join(cells)} |"
