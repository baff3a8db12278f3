"""What differs between SQLite and PostgreSQL: types, the database's clock, and identifiers."""

import secrets
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Dialect, Float, MetaData, func, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator, TypeEngine

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Instant(TypeDecorator[datetime]):
    """Store an aware UTC time: `timestamptz` on PostgreSQL, seconds since 1970 as REAL on SQLite."""

    impl = Float
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else Float())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | float | None:
        """Hand a time to the driver."""
        return value if value is None or dialect.name == "postgresql" else value.timestamp()

    def process_result_value(self, value: datetime | float | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Take a time from the driver."""
        if value is None or isinstance(value, datetime):
            return value and value.astimezone(UTC)
        return datetime.fromtimestamp(value, UTC)


class now(GenericFunction[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """Tell the database's time. No machine's own clock decides anything in the job protocol."""

    type = Instant()
    name = "leanfuse_now"
    inherit_cache = True


class later(GenericFunction[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """Tell the database's time plus some seconds, which may be negative or a column."""

    type = Instant()
    name = "leanfuse_later"
    inherit_cache = True


# Whole milliseconds, the resolution of SQLite's clock, so that a time survives the way to Python and back.
_SQLITE_NOW = "round((julianday('now') - 2440587.5) * 86400.0, 3)"


@compiles(now, "postgresql")
def _now_on_postgresql(_element: now, _compiler: SQLCompiler, **_options: object) -> str:
    return "clock_timestamp()"


@compiles(now, "sqlite")
def _now_on_sqlite(_element: now, _compiler: SQLCompiler, **_options: object) -> str:
    return _SQLITE_NOW


@compiles(later, "postgresql")
def _later_on_postgresql(element: later, compiler: SQLCompiler, **options: object) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"


@compiles(later, "sqlite")
def _later_on_sqlite(element: later, compiler: SQLCompiler, **options: object) -> str:
    return f"({_SQLITE_NOW} + {compiler.process(element.clauses, **options)})"


class Base(DeclarativeBase):
    """Collect the tables, with one naming rule for constraints so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def insert_missing(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows whose keys are new and leave the others as they are; return how many were new."""
    if not rows:
        return 0
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    inserting = insert(table).values(list(rows)).on_conflict_do_nothing()
    return len(session.execute(inserting.returning(*inspect(table).primary_key)).all())


def exclude_others(session: Session, subject: str) -> None:
    """Wait for, then keep out, other transactions about the same subject until this one ends.

    SQLite has one writer at a time anyhow.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(subject, 0))))


def new_id() -> str:
    """Make a UUID of version 7 (RFC 9562): random, and sorted by time of making so that indexes stay dense."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    return str(uuid.UUID(int=value))
