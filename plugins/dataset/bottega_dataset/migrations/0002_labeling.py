"""What labeling needs: what kind of thing an annotation says, its name among its like, histories, and suggestions."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0002"
down_revision = "dataset_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset_sample", sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
    op.add_column("dataset_annotation", sa.Column("type", sa.String(), nullable=True))
    op.add_column("dataset_annotation", sa.Column("id", sa.String(), nullable=True))
    op.create_table(
        "dataset_history",
        sa.Column("sample_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sample_key", "revision"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dataset_suggestion",
        sa.Column("sample_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("property", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("sample_key", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dataset_suggestion_task", "dataset_suggestion", ["task_id", "sample_key"], unique=False)
