"""Runs the migrations on the connection that `app.db.migrate` hands over, all of them in one transaction."""

from alembic import context
from sqlalchemy import Connection, text

from app.db import tables
from app.db.base import Base

# Any number will do, as long as no other program on the same database uses it.
_LOCK = 7_206_811_330


def _prepare(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        # Rebuilding a table must not fire foreign keys; SQLite takes this only outside a transaction.
        connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]


def _take_turns(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = '120s'"))
        connection.execute(text("SET LOCAL lock_timeout = '120s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # From here on, rather fail than queue behind a long query and block everyone who comes after.
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))


def migrate(connection: Connection) -> None:
    """Apply or undo what the command asks for."""
    _prepare(connection)
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with connection.begin():
        _take_turns(connection)
        with context.begin_transaction():
            context.run_migrations()


assert tables.Job.metadata is Base.metadata  # noqa: S101 - importing the tables is what fills the metadata
migrate(context.config.attributes["connection"])
