"""Write what the job files came to as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

HEAD = (
    "| job file | accuracy %, 95 % interval | parameters | bytes | ms, one row | against | points | verdict |",
    "|---|---|---|---|---|---|---|---|",
)


ORDER = (
    *("train", "train_mlp", "search"),
    *("share_weights", "convolve", "distill", "prune", "quantize", "factorize", "cluster", "fine_tune", "chain"),
    *("parallel", "serial", "stack", "soup", "snapshot", "cascade"),
)


def table(results: Mapping[str, Mapping[str, Any]], machine: str) -> str:
    """Return the table in Markdown, with what it was measured on and how."""
    text = (
        "`python -m benchmarks.methods` submits them, each in turn, to a service of its own. They are compared with\n"
        "the parent, the teacher, the best member or, of a `train` job, the most frequent class (guessing). `digits`\n"
        "has 359 report rows, which show differences of a few points only; so the files allow a `max_drop` of 2,\n"
        f"where the default is 0.5. Measured on {machine}."
    )
    return "\n".join((text, "", *HEAD, *_lines(results))) + "\n"


def _lines(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, result in sorted(results.items(), key=lambda item: ORDER.index(item[0])):
        low, high = (100 * bound for bound in result["accuracy_interval"])
        verdict = result["verdict"] + (", rejected" if result["state"] == "rejected" else "")
        cells = (
            f"[{name}]({_page(name)})",
            f"{100 * result['accuracy']:.1f} ({low:.1f} to {high:.1f})",
            f"{result['parameters']:,}",
            f"{result['served_bytes']:,}",
            f"{result['latency_ms_batch_1']:.3f}",
            _against(result["against"]),
            f"{100 * result['difference']:+.1f}",
            verdict,
        )
        yield f"| {' | '.join(cells)} |"


def _against(words: str) -> str:
    """Return what a version was compared with, without its name."""
    named = {"its parent": "parent", "its teacher": "teacher", "its best member": "best member", "the spec": "trial 0"}
    return next((short for start, short in named.items() if words.startswith(start)), "guessing")


def _page(name: str) -> str:
    return "train.md#the-second-parent" if name == "train_mlp" else f"{name}.md"
