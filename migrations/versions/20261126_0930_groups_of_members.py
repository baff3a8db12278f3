"""Let one job train several members of an ensemble, and an ensemble do without those that failed."""

import sqlalchemy as sa
from alembic import op

revision = "c3e58f1d9a26"
down_revision = "b7d20f6a31c4"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("min_dependencies", sa.Integer(), nullable=True))
    op.add_column("job_dependencies", sa.Column("ordinal", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("job_dependencies", "ordinal")
    op.drop_column("jobs", "min_dependencies")
