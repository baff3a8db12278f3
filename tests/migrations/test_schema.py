"""The migrations make the schema that the tables describe, on both databases, whatever the working directory."""

import subprocess
import sys
import warnings
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from app.db import migrate, registry
from app.db.base import Base
from app.db.session import create_engine_for, make_sessions


def differences(url: str) -> list[object]:
    engine = create_engine_for(url)
    with engine.connect() as connection, warnings.catch_warnings():
        # SQLite cannot tell what is in an index over `priority DESC`; PostgreSQL compares it.
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        options = {"compare_type": True, "compare_server_default": True}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    engine.dispose()
    return list(found)


def tables(url: str) -> set[str]:
    engine = create_engine_for(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def upgrading(url: str) -> str:
    return f"from app.db import migrate; migrate.upgrade({url!r})"


def test_migrations_make_what_the_tables_say(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)

    assert differences(empty_database_url) == []


def test_up_down_and_up_again_ends_where_it_began(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    migrate.downgrade(empty_database_url, "base")
    assert tables(empty_database_url) == {"alembic_version"}

    migrate.upgrade(empty_database_url)

    assert tables(empty_database_url) == {"alembic_version", *Base.metadata.tables}


def test_a_new_database_has_an_unchanged_registry(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    engine = create_engine_for(empty_database_url)

    with make_sessions(engine).begin() as session:
        assert registry.revision(session) == 0
    engine.dispose()


def test_readiness_knows_whether_the_schema_is_current(empty_database_url: str) -> None:
    engine = create_engine_for(empty_database_url)
    before = migrate.is_current(engine)
    migrate.upgrade(empty_database_url)

    assert (before, migrate.is_current(engine)) == (False, True)
    engine.dispose()


def test_two_deployers_at_once_take_turns(empty_database_url: str) -> None:
    deployers = [subprocess.Popen([sys.executable, "-c", upgrading(empty_database_url)]) for _ in range(2)]

    assert [deployer.wait(timeout=60) for deployer in deployers] == [0, 0]
    assert "jobs" in tables(empty_database_url)


def test_migrating_needs_no_file_of_the_working_directory(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"

    subprocess.run([sys.executable, "-c", upgrading(url)], cwd=tmp_path, check=True, timeout=60)

    assert "jobs" in tables(url)
