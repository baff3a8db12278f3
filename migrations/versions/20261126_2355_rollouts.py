"""Keep rollouts of aliases, present and past."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "d4a7c02e5b18"
down_revision = "c3e58f1d9a26"

INSTANT = sa.Float().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "alias_rollouts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("model_id", sa.String(36), nullable=False),
        sa.Column("alias", sa.String(63), nullable=False),
        sa.Column("version_id", sa.String(36), nullable=False),
        sa.Column("mode", sa.String(20), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("steps", JSON, nullable=False),
        sa.Column("tally", JSON, nullable=False),
        sa.Column("tallied", sa.BigInteger(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.Column("outcome", sa.String(20), nullable=True),
        sa.CheckConstraint("mode IN ('split','shadow')", name=op.f("ck_alias_rollouts_mode")),
        sa.CheckConstraint("percent BETWEEN 1 AND 100", name=op.f("ck_alias_rollouts_percent")),
        sa.CheckConstraint("outcome IN ('promoted','ended','replaced')", name=op.f("ck_alias_rollouts_outcome")),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name=op.f("ck_alias_rollouts_ended")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_alias_rollouts_model_id_models")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_alias_rollouts_version_id_model_versions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_rollouts")),
    )
    op.create_index("ix_alias_rollouts_version_id", "alias_rollouts", ["version_id"])
    op.create_index(
        "uq_alias_rollouts_open",
        "alias_rollouts",
        ["model_id", "alias"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("alias_rollouts")
