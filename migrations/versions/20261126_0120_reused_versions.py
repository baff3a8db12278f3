"""Let jobs tell which version they took instead of making it again."""

import sqlalchemy as sa
from alembic import op

revision = "b7d20f6a31c4"
down_revision = "8c41d7a2b9e0"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("reused_version_id", sa.String(36), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "reused_version_id")
