"""What makes SQLite as dependable as a server."""

import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from app.db import sqlite
from app.db.session import Sessions, create_engine_for, make_sessions, reading
from app.domain.errors import DatabaseUnavailableError
from tests.factories import make_dataset, new_id, submit_job

# One process imports everything once; the others are forked from it, never from a process that has threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.factories"])


def wal_of(url: str) -> Path:
    return Path(f"{make_url(url).database}-wal")


def submit_until_killed(url: str, dataset_id: str, acknowledged: Path) -> None:
    engine = create_engine_for(url)
    sessions = make_sessions(engine)
    with acknowledged.open("a", buffering=1) as file:
        while True:
            file.write(submit_job(sessions, dataset_id) + "\n")
            sqlite.checkpoint_wal(engine, least_bytes=0)


def test_every_connection_has_the_settings(sqlite_sessions: Sessions) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "mmap_size")
    with reading(sqlite_sessions) as session:
        found = [session.execute(text(f"PRAGMA {name}")).scalar_one() for name in names]

    assert found == ["wal", 2, 1, 10_000, 0]


def test_readers_do_not_wait_for_a_writer(sqlite_sessions: Sessions) -> None:
    make_dataset(sqlite_sessions)
    with sqlite_sessions.begin() as writer, reading(sqlite_sessions) as reader:
        writer.execute(text("UPDATE datasets SET name = 'renamed'"))

        assert reader.execute(text("SELECT name FROM datasets")).scalar_one() == "digits"


def test_a_second_writer_waits_for_the_first(sqlite_url: str) -> None:
    with sqlite3.connect(make_url(sqlite_url).database or "") as first:
        first.execute("BEGIN IMMEDIATE")
        engine = create_engine_for(sqlite_url)
        with engine.connect() as second:
            second.connection.driver_connection.execute("PRAGMA busy_timeout=50")  # type: ignore[union-attr]
            with pytest.raises(DatabaseUnavailableError):
                second.begin()
        engine.dispose()
        first.rollback()


def test_a_checkpoint_empties_the_wal_for_reuse(sqlite_url: str) -> None:
    engine = create_engine_for(sqlite_url)
    sessions = make_sessions(engine)
    dataset_id = make_dataset(sessions)
    for _ in range(20):
        submit_job(sessions, dataset_id)
    grown = wal_of(sqlite_url).stat().st_size
    assert not sqlite.checkpoint_wal(engine)

    assert sqlite.checkpoint_wal(engine, least_bytes=0) is not sqlite.CHECKPOINTS_SAFELY
    submit_job(sessions, dataset_id)

    assert wal_of(sqlite_url).stat().st_size == grown
    engine.dispose()


@pytest.mark.skipif(sqlite.CHECKPOINTS_SAFELY, reason="this SQLite checkpoints by itself, safely")
def test_no_commit_may_happen_during_a_checkpoint(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine_for(sqlite_url)
    make_dataset(make_sessions(engine))
    refused: list[str] = []
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *arguments: object) -> sqlite3.Cursor:
            rival = connect(make_url(sqlite_url).database or "", timeout=0)
            try:
                rival.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                refused.append(str(error))
            rival.close()
            return super().execute(statement, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, factory=Watched))
    sqlite.checkpoint_wal(engine, least_bytes=0)

    assert refused == ["database is locked"]
    engine.dispose()


def test_killed_writers_lose_no_acknowledged_job(sqlite_url: str, tmp_path: Path) -> None:
    engine = create_engine_for(sqlite_url)
    sessions = make_sessions(engine)
    dataset_id = make_dataset(sessions)
    acknowledged = tmp_path / "acknowledged"
    for kill in range(3):
        arguments = (sqlite_url, dataset_id, acknowledged)
        writers = [PROCESSES.Process(target=submit_until_killed, args=arguments) for _ in range(2)]
        for writer in writers:
            writer.start()
        while not acknowledged.exists() or len(acknowledged.read_text().splitlines()) < 10 * (kill + 1):
            time.sleep(0.01)
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join()
        with reading(sessions) as session:
            assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
            kept = set(session.scalars(text("SELECT id FROM jobs")))
        # The last line of a killed process may be torn.
        assert {line for line in acknowledged.read_text().splitlines() if len(line) == len(new_id())} <= kept
    engine.dispose()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\n")

    with pytest.raises(DatabaseUnavailableError, match=kind):
        sqlite.check_file_system(tmp_path / "home" / "leanfuse.db", mounts=mounts)


def test_local_file_systems_are_accepted(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/root / ext4 rw 0 0\nserver:/x /elsewhere nfs rw 0 0\n")

    assert sqlite.check_file_system(tmp_path / "leanfuse.db", mounts=mounts) is None  # type: ignore[func-returns-value]
    assert sqlite.check_file_system(tmp_path / "leanfuse.db") is None  # type: ignore[func-returns-value]


def test_an_unreachable_database_has_one_name(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/no/such/folder.db", "postgresql://nobody@127.0.0.1:1/none"):
        engine = create_engine_for(url)
        with pytest.raises(DatabaseUnavailableError), engine.connect():
            pass
        engine.dispose()
