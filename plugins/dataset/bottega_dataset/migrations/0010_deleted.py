"""What was deleted and can be put back."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0010"
down_revision = "dataset_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_deleted_sample",
        sa.Column("change_id", sa.String(), nullable=False),
        sa.Column("key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("dataset_key", sa.Integer(), nullable=False),
        sa.Column("sample_id", sa.LargeBinary(16), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("modified_at", sa.BigInteger(), nullable=True),
        sa.Column("usage", sa.String(), nullable=True),
        sa.Column("labeled", sa.Boolean(), nullable=False),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dataset_deleted_sample_dataset_key", "dataset_deleted_sample", ["dataset_key"], unique=False)
    op.create_table(
        "dataset_deleted_annotation",
        sa.Column("change_id", sa.String(), nullable=False),
        sa.Column("sample_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("label_key", sa.Integer(), nullable=False),
        sa.Column("label_type", sa.Integer(), nullable=True),
        sa.Column("label_name", sa.String(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("hard", sa.Boolean(), nullable=True),
        sa.Column("annotated_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=True),
        sa.Column("property", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("type", sa.String(), nullable=True),
        sa.Column("id", sa.String(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("sample_hard", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("change_id", "sample_key", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dataset_deleted_annotation_sample", "dataset_deleted_annotation", ["sample_key"], unique=False)
