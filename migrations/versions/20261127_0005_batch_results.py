"""Keep the files that batch predictions come to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "e8b16d3f7a40"
down_revision = "d4a7c02e5b18"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("result_file", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "result_file")
