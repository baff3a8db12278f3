"""Pages of MLflow's searches: opaque tokens that count from the start, good for one search only."""

import hashlib

import orjson

from app.api.deps import Services
from app.api.mlflow.requests import ModelSearch
from app.api.pages import Paging


class Tokens:
    """Read the token of the page that is asked for, and make that of the next."""

    def __init__(self, wired: Services, kind: str, sent: ModelSearch) -> None:
        asked = orjson.dumps([kind, sent.filter, sent.order_by])
        self._paging = Paging(wired.page_key, hashlib.sha256(asked).hexdigest()[:16], 0, sent.page_token)
        self.after = int(self._paging.request.after or 0)

    def next(self, after: str | None) -> str:
        """Return the token of the page after so many; empty at the end."""
        return self._paging.token(after)
