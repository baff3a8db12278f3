"""Options that several commands have, and the client that they open."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option("--url", envvar="LEANFUSE_URL", help="Where the service is.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document or one line per event.")]
JobId = Annotated[str, typer.Argument(help="The id that `jobs submit` printed.")]


def connect(url: str) -> "Client":
    """Open a client; httpx is imported only now, so that `--help` stays fast."""
    from app.client import Client

    return Client(url)
