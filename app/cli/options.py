"""Options that several commands have, and the client that they open."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.completion import complete_dataset, complete_job, complete_model
from app.cli.config import DEFAULT_URL, read_config

if TYPE_CHECKING:
    from app.client import Client

__all__ = ["DEFAULT_URL", "JobId", "Json", "Reference", "Url", "connect"]

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="LEANFUSE_URL", help=f"Where it is. Default: config.toml, else {DEFAULT_URL}"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document or one line per event.")]
JobId = Annotated[
    str, typer.Argument(help="The id that `jobs submit` printed.", autocompletion=complete_job, show_default=False)
]
Reference = Annotated[
    str,
    typer.Argument(
        help="name, name/3 (a version) or name@champion (an alias).", autocompletion=complete_model, show_default=False
    ),
]
DatasetName = Annotated[
    str, typer.Argument(help="A registered data set.", autocompletion=complete_dataset, show_default=False)
]


def connect(url: str | None) -> "Client":
    """Open a client; httpx is imported only now, so that `--help` stays fast."""
    from app.client import Client

    config = read_config()
    return Client(url or config.url, timeout_seconds=config.timeout_seconds)
