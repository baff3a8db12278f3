"""Engines and sessions: how to connect, how to begin, and what a broken connection is called."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import orjson
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.db import sqlite
from app.domain.errors import DatabaseUnavailableError

Sessions: TypeAlias = sessionmaker[Session]

# PostgreSQL refuses U+0000 in JSON; a log line of a library must not be able to stop a job.
_ESCAPED_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_POSTGRESQL_ARGUMENTS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "leanfuse",
    "options": (
        "-c timezone=UTC -c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s"
    ),
}


def create_engine_for(url: str | URL) -> Engine:
    """Connect to `sqlite:///path` (WAL, one writer at a time) or `postgresql://...` (timeouts on everything)."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            sqlite.check_file_system(Path(parsed.database))
        engine = create_engine(parsed, json_serializer=write_json, json_deserializer=orjson.loads, **sqlite.arguments())
        sqlite.prepare(engine)
    else:
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            json_serializer=write_json,
            json_deserializer=orjson.loads,
            pool_pre_ping=True,
            connect_args=_POSTGRESQL_ARGUMENTS,
        )
    event.listen(engine, "handle_error", _name_outages)
    return engine


def make_sessions(engine: Engine) -> Sessions:
    """Return the factory that every caller opens its sessions with: `with sessions.begin() as session:`."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def reading(sessions: Sessions) -> Iterator[Session]:
    """Open a session that only reads: on SQLite it then waits for no writer, and no writer waits for it."""
    with sessions() as session:
        session.connection(execution_options={sqlite.READ_ONLY: True})
        yield session


def write_json(value: object) -> str:
    """Write a JSON column: NaN and infinities become null, NUL characters are dropped."""
    return _ESCAPED_NUL.sub(rb"\1", orjson.dumps(value)).decode()


def _name_outages(context: ExceptionContext) -> None:
    """Call every failure of the database itself by one name, at the one place where SQLAlchemy is known."""
    if isinstance(context.sqlalchemy_exception, OperationalError | InterfaceError):
        raise DatabaseUnavailableError(
            "The database does not answer.", hint="Try again in a moment; `leanfuse doctor` checks the database."
        ) from context.original_exception
