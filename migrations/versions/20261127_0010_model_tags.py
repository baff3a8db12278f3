"""Keep what users say about models and versions: tags of models, notes of versions, and which models were deleted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "d4a91c7e52b8"
down_revision = "e8b16d3f7a40"

INSTANT = sa.Float().with_variant(TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.add_column("models", sa.Column("deleted_at", INSTANT, nullable=True))
    op.create_table(
        "model_tags",
        sa.Column("model_id", sa.String(36), nullable=False),
        sa.Column("key", sa.String(250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_model_tags_model_id_models")),
        sa.PrimaryKeyConstraint("model_id", "key", name=op.f("pk_model_tags")),
    )
    op.create_table(
        "version_notes",
        sa.Column("version_id", sa.String(36), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("run_link", sa.Text(), nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name=op.f("fk_version_notes_version_id_model_versions")
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_version_notes")),
    )


def downgrade() -> None:
    op.drop_table("version_notes")
    op.drop_table("model_tags")
    op.drop_column("models", "deleted_at")
