"""Render pages: one Jinja environment an application, made by its composition root."""

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from app import __version__
from app.domain.errors import LeanfuseError
from app.ui.formats import FILTERS, elapsed

_SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')


class Templates:
    """Hold the templates of all pages."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("app.ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {**FILTERS, **_FILTERS}
        self._environment.globals |= {"version_of_service": __version__, "elapsed": elapsed}

    def page(self, name: str, *, code: int = HTTPStatus.OK, **context: Any) -> HTMLResponse:  # noqa: ANN401 - whatever a page shows
        """Return a page, or a part of one, with what its template asks for."""
        return HTMLResponse(self._environment.get_template(name).render(context), status_code=code)

    def warm(self) -> None:
        """Compile every template, so that no reader waits for it."""
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    def error(self, error: LeanfuseError, headers: Mapping[str, str]) -> HTMLResponse:
        """Return the page that tells a reader what went wrong, and how to go on."""
        page = self.page("error.html", code=error.code, error=error)
        page.headers.update(headers)
        return page


def _as_json(value: object) -> Markup:
    """Write JSON that may stand in a page: `<` is escaped, so that no text ends the script that holds it."""
    return Markup(orjson.dumps(value).decode().replace("<", "\\u003c"))  # noqa: S704 - escaped just here


def _as_figure(svg: str) -> Markup:
    """Put a figure into a page at its own size, smaller where there is less room.

    One with links is no image to those who hear the page: its links could not be reached.
    """
    shown = svg.replace('role="img"', 'role="group"', 1) if "<a " in svg else svg
    return Markup(_SIZE.sub(r'\g<0> width="\1" height="\2"', shown, count=1))  # noqa: S704 - our figures escape their texts


def _as_query(query: str) -> str:
    return f"?{query}"


def _as_pretty_json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


_FILTERS: Mapping[str, Callable[..., str]] = {
    "json": _as_json,
    "pretty": _as_pretty_json,
    "figure": _as_figure,
    "query": _as_query,
}


def templates(request: Request) -> Templates:
    """Return the templates of the application that serves this request."""
    found: Templates = request.app.state.templates
    return found


Rendering = Annotated[Templates, Depends(templates)]
