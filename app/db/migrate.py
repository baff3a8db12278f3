"""Bring a database to the newest schema. No configuration file is needed, from whatever directory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from app.db.session import create_engine_for

if TYPE_CHECKING:
    from alembic.config import Config


def upgrade(url: str, revision: str = "head") -> None:
    """Apply the migrations that are missing; several processes may call it at once."""
    from alembic import command

    with _configured(url) as config:
        command.upgrade(config, revision)


def downgrade(url: str, revision: str) -> None:
    """Undo migrations down to a revision, or all with `base`."""
    from alembic import command

    with _configured(url) as config:
        command.downgrade(config, revision)


def new_revision(url: str, message: str) -> None:
    """Write a migration file from the difference between the tables and a database at the newest schema."""
    from alembic import command

    with _configured(url) as config:
        command.revision(config, message, autogenerate=True)


def is_current(engine: Engine) -> bool:
    """Tell whether the database has the newest schema, for readiness checks.

    Reads the migrations as text: importing Alembic would be a fifth of the time that the API needs to start.
    """
    if not inspect(engine).has_table("alembic_version"):
        return False
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return set(found) == _heads()


def _heads() -> set[str]:
    """Return the revisions that no other migration follows."""
    scripts = [path.read_text() for path in (files("migrations") / "versions").iterdir() if path.name.endswith(".py")]
    revisions = {name for script in scripts for name in re.findall(r'^revision\b.*"(\w+)"', script, re.MULTILINE)}
    followed = {name for script in scripts for name in re.findall(r'^down_revision\b.*"(\w+)"', script, re.MULTILINE)}
    return revisions - followed


def configuration(connection: Connection | None = None) -> "Config":
    """Return Alembic's configuration, with the connection that the migrations run on."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(hour).2d%%(minute).2d_%%(slug)s")
    config.set_main_option("timezone", "UTC")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _configured(url: str) -> "Iterator[Config]":
    engine = create_engine_for(url)
    try:
        with engine.connect() as connection:
            yield configuration(connection)
    finally:
        engine.dispose()
