"""The migrations make the schema that the tables describe, on both databases, whatever the working directory."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from app.db import migrate, registry
from app.db.base import Base
from app.db.session import create_engine_for, make_sessions
from tests import factories


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


FIRST_SCHEMA = "60ff019c85ca"
SET_STATE = "UPDATE model_versions SET state = :state WHERE version = 1"


def test_versions_of_the_first_schema_survive_and_may_then_be_rejected(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    engine = create_engine_for(empty_database_url)
    sessions = make_sessions(engine)
    dataset_id = factories.make_dataset(sessions)
    _, version_id = factories.train(sessions, dataset_id, spec={"alias": "champion", "tags": {"team": "vision"}})
    migrate.downgrade(empty_database_url, FIRST_SCHEMA)
    with sessions() as session:
        before = registry.resolve(session, "digits-cnn@champion")
    with sessions() as session, pytest.raises(IntegrityError):
        session.execute(text(SET_STATE), {"state": "rejected"})

    migrate.upgrade(empty_database_url)

    with sessions.begin() as session:
        assert registry.resolve(session, "digits-cnn@champion") == before
        assert before.id == version_id
        session.execute(text(SET_STATE), {"state": "rejected"})
    with sessions() as session, pytest.raises(IntegrityError):
        session.execute(text(SET_STATE), {"state": "splendid"})
    with sessions() as session, pytest.raises(IntegrityError):
        session.execute(text("INSERT INTO aliases VALUES ('nowhere', 'a', 'nothing', NULL)"))
    engine.dispose()


def test_the_first_schema_knows_rejected_versions_as_deleted(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    engine = create_engine_for(empty_database_url)
    sessions = make_sessions(engine)
    factories.train(sessions, factories.make_dataset(sessions))
    with sessions.begin() as session:
        session.execute(text(SET_STATE), {"state": "rejected"})

    migrate.downgrade(empty_database_url, FIRST_SCHEMA)

    with sessions() as session:
        assert session.scalars(text("SELECT state FROM model_versions")).all() == ["deleted"]
    with sessions() as session, pytest.raises(IntegrityError):
        session.execute(text(SET_STATE), {"state": "rejected"})
    engine.dispose()


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
