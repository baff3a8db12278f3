"""Let versions be rejected by the gate of their method."""

from alembic import op

revision = "8c41d7a2b9e0"
down_revision = "60ff019c85ca"

BEFORE = "state IN ('ready','deprecated','deleting','deleted','corrupted')"
AFTER = "state IN ('ready','rejected','deprecated','deleting','deleted','corrupted')"


def upgrade() -> None:
    _allow(AFTER)


def downgrade() -> None:
    # The release before would serve them under a name without a number.
    op.execute("UPDATE model_versions SET state = 'deleted' WHERE state = 'rejected'")
    _allow(BEFORE)


def _allow(states: str) -> None:
    # SQLite changes no constraint in place: there, a batch copies the table.
    with op.batch_alter_table("model_versions") as table:
        table.drop_constraint(op.f("ck_model_versions_state"), type_="check")
        table.create_check_constraint(op.f("ck_model_versions_state"), states)
