"""Write every kind of problem into docs/troubleshooting.md: `python .ci/troubleshooting.py`, which `make docs` runs."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.domain.error_tree import all_errors, job_errors, upload_errors  # noqa: E402 - the line above finds it
from app.domain.errors import JobError, LeanfuseError, UnreadableFileError  # noqa: E402

PAGE = ROOT / "docs" / "troubleshooting.md"
BETWEEN = re.compile(r"(<!-- problems -->\n).*(<!-- /problems -->)", re.DOTALL)
GROUPS = (
    "A request is refused",
    "An upload is refused",
    "Not there, or in conflict",
    "Not now, or not here",
    "A job failed",
)


def problems() -> str:
    """Return all kinds of problems in Markdown, by where they are met."""
    kinds = {kind.slug: kind for kind in all_errors() if "slug" in vars(kind)}
    grouped: dict[str, list[type[LeanfuseError]]] = {group: [] for group in GROUPS}
    for _, kind in sorted(kinds.items()):
        grouped[group_of(kind)].append(kind)
    return "".join(line for group in GROUPS for line in _section(group, grouped[group]))


def group_of(kind: type[LeanfuseError]) -> str:
    """Return the heading under which a kind of problem stands."""
    if issubclass(kind, JobError) or kind.__module__ == job_errors.__name__:
        return "A job failed"
    if issubclass(kind, UnreadableFileError) or kind.__module__ == upload_errors.__name__:
        return "An upload is refused"
    if kind.code >= 500:
        return "Not now, or not here"
    return "Not there, or in conflict" if kind.code in {404, 409, 410, 412} else "A request is refused"


def _section(group: str, kinds: list[type[LeanfuseError]]) -> Iterator[str]:
    yield f"\n## {group}\n"
    for kind in kinds:
        meaning = inspect.getdoc(kind) or ""
        yield f"\n### {kind.slug}\n\n*{kind.title}* ({kind.code}). {' '.join(meaning.split())}\n"
        if remedy := str(getattr(kind, "remedy", "")):
            yield f"\n**What to do.** {remedy}\n"
    yield "\n" if group == GROUPS[-1] else ""


def page() -> str:
    """Return the page as it should be."""
    text, count = BETWEEN.subn(lambda found: f"{found[1]}{problems()}{found[2]}", PAGE.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{PAGE} needs one pair of comments named 'problems'.")
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
