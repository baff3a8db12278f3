"""Bring a database to the newest schema."""

from sqlalchemy import Engine


def upgrade(url: str, revision: str = "head") -> None:
    """Apply the migrations that are missing; several processes may call it at once."""
    raise NotImplementedError


def downgrade(url: str, revision: str) -> None:
    """Undo migrations down to a revision, or all with `base`."""
    raise NotImplementedError


def is_current(engine: Engine) -> bool:
    """Tell whether the database has the newest schema, for readiness checks."""
    raise NotImplementedError
