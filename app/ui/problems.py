"""Problems: what each kind means, and what to do about it."""

import re

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from app.domain.error_tree import all_errors
from app.domain.errors import LeanfuseError, NotFoundError
from app.ui.rendering import Rendering

router = APIRouter(prefix="/ui", include_in_schema=False)


@router.get("/problems")
def show_problems(pages: Rendering) -> HTMLResponse:
    """Show every kind of problem."""
    return pages.page("problems.html", kinds=sorted(all_errors(), key=lambda kind: kind.slug), meaning=meaning)


@router.get("/problems/{slug}")
def show_problem(slug: str, pages: Rendering) -> HTMLResponse:
    """Show one kind of problem."""
    kind = next((kind for kind in all_errors() if kind.slug == slug), None)
    if kind is None:
        raise NotFoundError(f"There is no problem {slug[:80]!r}.", hint="The page Problems lists them.")
    return pages.page("problem.html", kind=kind, meaning=meaning(kind), remedy=with_code(kind.remedy))


def meaning(kind: type[LeanfuseError]) -> Markup:
    """Return what a kind of problem means, from its class."""
    return with_code(" ".join((kind.__doc__ or "").split()))


def with_code(text: str) -> Markup:
    """Return text as HTML, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just here
