"""Figures as answers: SVG with the colours of a theme, or PNG by the same drawing."""

import hashlib
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from app.api.v1.lookup import etag, matches
from app.plots.style import Theme, themed

SVG, PNG = "image/svg+xml", "image/png"
Form = Literal["svg", "png"]
ThemeAsked = Annotated[Theme, Query(description="Colours for a light or for a dark page.")]
# A font of our own: slim images have none, and every machine shall draw the same file.
_FONT = Path(__file__).parents[2] / "plots" / "fonts" / "DejaVuSans.ttf"
_MOST_PIXELS = 8_000_000
_ZOOM = 2.0
_SIZE = re.compile(r'<svg [^>]*?\bwidth="([0-9.]+)" height="([0-9.]+)"')
_MEDIA_TYPES: dict[Form, str] = {"svg": SVG, "png": PNG}


def described(form: Form) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of an answer that is a figure."""
    schema = {"type": "string"} if form == "svg" else {"type": "string", "format": "binary"}
    return {
        200: {"description": "The figure.", "content": {_MEDIA_TYPES[form]: {"schema": schema}}},
        304: {"description": "The figure is the one of the given ETag."},
    }


def send_figure(svg: str, form: Form, theme: Theme, if_none_match: str) -> Response:
    """Answer with a figure, or with 304 when the sender has it. Call it in a thread: a PNG takes a while to draw."""
    content = themed(svg, theme)
    digest = hashlib.sha256(f"{form} {content}".encode()).hexdigest()
    headers = {
        "ETag": etag(digest),
        # The next release may draw the same numbers otherwise.
        "Cache-Control": "no-cache",
        # Opened by itself, an SVG is a document of this origin; it needs its own style and nothing else.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    if matches(if_none_match, digest):
        return Response(status_code=304, headers=headers)
    drawn = content.encode() if form == "svg" else to_png(content)
    return Response(drawn, headers=headers, media_type=_MEDIA_TYPES[form])


def to_png(svg: str) -> bytes:
    """Draw a figure that has its colours; twice as large as it says, or less where that would be too many pixels."""
    import resvg_py

    found = _SIZE.match(svg)
    if found is None:
        raise ValueError("only a figure with a theme can be drawn")
    area = float(found[1]) * float(found[2])
    return resvg_py.svg_to_bytes(
        svg_string=svg,
        zoom=min(_ZOOM, math.sqrt(_MOST_PIXELS / max(area, 1.0))),
        skip_system_fonts=True,
        font_files=[str(_FONT)],
        font_family="DejaVu Sans",
        sans_serif_family="DejaVu Sans",
    )
