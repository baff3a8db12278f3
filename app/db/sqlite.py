"""SQLite as a server would be: durable, one writer at a time, checkpoints that cannot race with a commit."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection

from app.domain.errors import DatabaseUnavailableError

READ_ONLY = "leanfuse_read_only"
# Older libraries can corrupt the database when a commit restarts the WAL during a second checkpoint in a row:
# https://www.sqlite.org/wal.html#walresetbug
CHECKPOINTS_SAFELY = sqlite3.sqlite_version_info >= (3, 51, 3)
_CHECKPOINT_BYTES = 4 * 2**20
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "afs", "fuse.sshfs", "lustre", "ceph")
_PRAGMAS = (
    "PRAGMA busy_timeout=10000",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=0",
    "PRAGMA journal_size_limit=67108864",
    f"PRAGMA wal_autocheckpoint={1000 if CHECKPOINTS_SAFELY else 0}",
)


def arguments() -> dict[str, Any]:
    """Return what `create_engine` needs for SQLite."""
    return {"connect_args": {"timeout": 10}}


def prepare(engine: Engine) -> None:
    """Set the pragmas on every connection, and begin every transaction as a writer unless it says that it reads."""
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions begin when SQLAlchemy says so, not when Python's driver sees fit.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma).fetchall()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at once, however long it is ready to wait.
    reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def checkpoint_wal(engine: Engine, *, least_bytes: int = _CHECKPOINT_BYTES) -> bool:
    """Copy a grown WAL into the database; return whether it did. Nothing to do where SQLite does it safely itself.

    The write lock is held all the while, by a transaction that writes nothing. So no commit can restart the WAL
    under the checkpoint, and no two checkpoints run at once, in whatever process.
    """
    wal = Path(f"{engine.url.database}-wal")
    if CHECKPOINTS_SAFELY or not wal.exists() or wal.stat().st_size < least_bytes:
        return False
    with engine.connect() as guard, guard.begin() as transaction:
        with closing(sqlite3.connect(str(engine.url.database))) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        transaction.rollback()
    return True


def check_file_system(path: Path, *, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raise DatabaseUnavailableError when the file would lie on a network file system, where WAL loses data.

    Only Linux tells; elsewhere every path is accepted.
    """
    if sys.platform != "linux":
        return
    kinds = dict(line.split()[1:3] for line in mounts.read_text().splitlines())
    folders = (path.resolve(), *path.resolve().parents)
    kind = next((kinds[str(folder)] for folder in folders if str(folder) in kinds), "")
    if kind.startswith(_NETWORK_FILE_SYSTEMS):
        raise DatabaseUnavailableError(
            f"SQLite cannot keep {path} safe on a {kind} file system.",
            hint="Put LEANFUSE_HOME on a local disk, or set LEANFUSE_DATABASE_URL to a PostgreSQL server.",
        )
