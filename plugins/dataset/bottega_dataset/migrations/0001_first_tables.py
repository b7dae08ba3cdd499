"""First tables."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0001"
down_revision = None
branch_labels = ("dataset",)
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "dataset_annotation",
        sa.Column("sample_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("label_key", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("hard", sa.Boolean(), nullable=True),
        sa.Column("annotated_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=True),
        sa.Column("property", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("sample_key", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_dataset_annotation_label", "dataset_annotation", ["label_key", "sample_key"], unique=False)
    op.create_table(
        "dataset_dataset",
        sa.Column("key", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset_type", sa.Integer(), nullable=False),
        sa.Column("data_path", sa.String(), nullable=False),
        sa.Column("work_path", sa.String(), nullable=False),
        sa.Column("label_format", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("next_sample", sa.BigInteger(), nullable=False),
        sa.Column("next_version", sa.Integer(), nullable=False),
        sa.Column("current_version_id", sa.String(), nullable=True),
        sa.Column("import_task_id", sa.String(), nullable=True),
        sa.Column("data_updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "dataset_label",
        sa.Column("key", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("dataset_key", sa.Integer(), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("property", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("attributes", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("dataset_key", "type", "name"),
    )
    op.create_table(
        "dataset_sample",
        sa.Column("key", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("dataset_key", sa.Integer(), nullable=False),
        sa.Column("sample_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("modified_at", sa.BigInteger(), nullable=True),
        sa.Column("usage", sa.String(), nullable=True),
        sa.Column("labeled", sa.Boolean(), nullable=False),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("dataset_key", "sample_id"),
    )
    op.create_index("ix_dataset_sample_state", "dataset_sample", ["dataset_key", "labeled", "key"], unique=False)
    op.create_table(
        "dataset_task",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("cursor", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_msg", sa.String(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dataset_task_list", "dataset_task", ["dataset_id", "kind", "created_at"], unique=False)
    op.create_index(op.f("ix_dataset_task_state"), "dataset_task", ["state"], unique=False)
    op.create_table(
        "dataset_task_problem",
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "number"),
    )
    op.create_table(
        "dataset_version",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("train_ratio", sa.Float(), nullable=False),
        sa.Column("options", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("manifest_path", sa.String(), nullable=False),
        sa.Column("manifest_sha256", sa.String(), nullable=False),
        sa.Column("total_samples", sa.Integer(), nullable=False),
        sa.Column("labeled_samples", sa.Integer(), nullable=False),
        sa.Column("multi_label", sa.Boolean(), nullable=False),
        sa.Column("label_stats", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("previous_id", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("dataset_id", "name"),
    )
