"""Write what was measured into a page of the documentation, between two comments of one name."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`; raise ValueError where they are missing."""
    between = re.compile(rf"(<!-- {re.escape(name)} -->\n).*(<!-- /{re.escape(name)} -->)", re.DOTALL)
    before = page.read_text(encoding="utf-8")
    after, count = between.subn(lambda found: f"{found[1]}{text}{found[2]}", before)
    if count != 1:
        raise ValueError(f"{page} needs one pair of comments named {name!r}.")
    page.write_text(after, encoding="utf-8")
