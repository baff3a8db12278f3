"""Send stored files: by ETag, one range at a time."""

import re
from typing import Annotated, NamedTuple

from fastapi import Header, Request, Response
from fastapi.responses import FileResponse

from app.api.deps import Services
from app.api.problems import refusal_response
from app.api.v1.lookup import etag, matches
from app.domain import request_errors
from app.domain.datasets import FileRef

IfNoneMatch = Annotated[str, Header(description="ETag of an answer that you have.")]
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Offer(NamedTuple):
    """A stored file, and what it is called when it is saved."""

    file: FileRef
    filename: str
    media_type: str


def send_file(request: Request, wired: Services, offer: Offer, if_none_match: str) -> Response:
    """Answer with the file, the range of it that was asked for, or 304; raise ArtifactCorruptedError."""
    sha256, size_bytes = offer.file.sha256, offer.file.size_bytes
    headers = {"ETag": etag(sha256), "Cache-Control": "public, max-age=31536000, immutable"}
    if matches(if_none_match, sha256):
        return Response(status_code=304, headers=headers)
    if not can_send(request, size_bytes):
        refusal = request_errors.RangeNotSatisfiableError(
            f"The file has {size_bytes:,} bytes, and one range of them is sent at a time.",
            hint="Send for example `Range: bytes=0-1023`.",
        )
        return refusal_response(request.scope, refusal, headers={"Content-Range": f"bytes */{size_bytes}"})
    path = wired.store.fetch(sha256)
    return FileResponse(path, headers=headers, media_type=offer.media_type, filename=offer.filename)


def can_send(request: Request, size_bytes: int) -> bool:
    """Tell whether the range can be sent; take away a Range header that is none, as RFC 9110 asks.

    One request must not make the service assemble thousands of pieces, so several ranges are refused.
    """
    given = request.headers.get("range", "")
    if given.startswith("bytes=") and "," in given:
        return False
    asked = _RANGE.fullmatch(given)
    first, last = asked.groups() if asked else ("", "")
    if not (first or last) or (first and last and int(first) > int(last)):
        request.scope["headers"] = [item for item in request.scope["headers"] if item[0] != b"range"]
        return True
    return int(first) < size_bytes if first else int(last) > 0
