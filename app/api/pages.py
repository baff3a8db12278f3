"""Pages of lists as in AIP-158: a size that is coerced, a token that only this service can make."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field

from app.api.deps import Wired
from app.db.pages import PageRequest
from app.domain.errors import FieldError
from app.domain.request_errors import InvalidFilterError, InvalidPageTokenError

DEFAULT_SIZE = 50
LARGEST_SIZE = 1000
# How a list may refuse a request.
LISTING = (InvalidPageTokenError, InvalidFilterError)
_PAGING = frozenset({"page_size", "page_token"})
Item = TypeVar("Item")


class Listed(BaseModel, Generic[Item]):
    """Hold one page of a list."""

    items: list[Item]
    next_page_token: str = Field("", description="Send it as `page_token` for the next page; empty at the end.")


class Paging:
    """Read the page that a request asks for, and make the token of the next."""

    def __init__(self, key: bytes, scope: str, page_size: int, page_token: str) -> None:
        self._key = key
        self._scope = scope
        size = min(page_size or DEFAULT_SIZE, LARGEST_SIZE)
        self.request = PageRequest(size=size, after=self._read(page_token) if page_token else None)

    def token(self, after: str | None) -> str:
        """Return the token of the page after that key; empty at the end."""
        if after is None:
            return ""
        body = orjson.dumps({"after": after, "scope": self._scope})
        return base64.urlsafe_b64encode(self._sign(body) + body).decode().rstrip("=")

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:16]

    def _read(self, token: str) -> str:
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _wrong_token() from None
        signature, body = raw[:16], raw[16:]
        if not hmac.compare_digest(signature, self._sign(body)):
            raise _wrong_token()
        content = orjson.loads(body)
        if content["scope"] != self._scope:
            raise _wrong_token()
        return str(content["after"])


PageSize = Annotated[int, Query(ge=0, description="At most 1000; 0 or none: 50.")]
PageToken = Annotated[str, Query(max_length=2000, description="`next_page_token` of the page before.")]


def paging(
    request: Request,
    wired: Wired,
    page_size: PageSize = 0,
    page_token: PageToken = "",
) -> Paging:
    """Read the paging parameters; a token is good only for the list and the filters that it was made for."""
    filters = {name: value for name, value in request.query_params.items() if name not in _PAGING}
    return Paging(wired.page_key, scope_of(request.url.path, filters), page_size, page_token)


Pages = Annotated[Paging, Depends(paging)]


def refuse_unknown_filters(request: Request, known: frozenset[str]) -> None:
    """Refuse query parameters that would silently select nothing."""
    for name in request.query_params:
        if name not in known | _PAGING:
            allowed = ", ".join(sorted(known)) or "none but paging"
            detail = f"There is no filter {name[:60]!r} here."
            field = FieldError(f"/query/{name[:60]}", detail, InvalidFilterError.slug)
            raise InvalidFilterError(detail, hint=f"Allowed: {allowed}.", errors=[field])


def scope_of(path: str, filters: Mapping[str, Any]) -> str:
    """Return what ties a token to a list and its filters."""
    return hashlib.sha256(orjson.dumps([path, filters], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _wrong_token() -> InvalidPageTokenError:
    return InvalidPageTokenError(
        "The page token is not one of this list.", hint="Send `next_page_token` unchanged, with the same filters."
    )
