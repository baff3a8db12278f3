"""A kind of problem as a page: whoever opens the `type` of a problem in a browser reads what to do."""

import html
import re
from collections.abc import Mapping

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Leanfuse</title>
</head>
<body>
<main>
<h1>{title}</h1>
<p><code>{slug}</code>, HTTP status {status}</p>
<h2>What it means</h2>
<p>{meaning}</p>
<h2>What to do</h2>
<p>{remedy}</p>
<p><a href="/problems">Every kind of problem</a> <a href="/docs">The API</a></p>
</main>
</body>
</html>
"""


def problem_page(told: Mapping[str, object]) -> str:
    """Return the page of a kind of problem: its title, slug, status, meaning and remedy."""
    return _PAGE.format_map({name: _marked_up(str(value)) for name, value in told.items()})


def prefers_html(accept: str) -> bool:
    """Tell whether an Accept header names HTML before JSON, as browsers do; programs name neither or JSON.

    >>> prefers_html("text/html,application/xhtml+xml,*/*;q=0.8"), prefers_html("*/*"), prefers_html("")
    (True, False, False)
    """
    types = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    first = next((kind for kind in types if kind in ("text/html", "application/json", "application/problem+json")), "")
    return first == "text/html"


def _marked_up(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))
