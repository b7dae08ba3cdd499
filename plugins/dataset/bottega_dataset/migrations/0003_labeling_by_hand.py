"""What labeling by hand needs: changes, filters with names, signatures, and the indexes that finding samples uses."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0003"
down_revision = "dataset_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_change",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset_key", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dataset_change_list", "dataset_change", ["dataset_key", "at"], unique=False)
    op.add_column("dataset_history", sa.Column("change_id", sa.String(), nullable=True))
    op.add_column("dataset_history", sa.Column("undoes", sa.Integer(), nullable=True))
    op.add_column("dataset_history", sa.Column("sample", sa.JSON(none_as_null=True), nullable=True))
    op.create_index("ix_dataset_history_change", "dataset_history", ["change_id", "sample_key"], unique=False)
    op.create_table(
        "dataset_filter",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("dataset_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sample_state", sa.String(), nullable=True),
        sa.Column("conditions", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("dataset_key", "name"),
    )
    op.create_table(
        "dataset_signature",
        sa.Column(
            "sample_key", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("of", sa.String(), nullable=False),
        sa.Column("bits", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sample_key"),
    )
    op.add_column("dataset_dataset", sa.Column("deleted_samples", sa.Integer(), server_default="0", nullable=False))
    op.add_column("dataset_dataset", sa.Column("watched", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("dataset_dataset", sa.Column("options", sa.JSON(none_as_null=True), nullable=True))
    for name, table, columns, where in (
        ("ix_dataset_sample_hard", "dataset_sample", ["dataset_key", "key"], "hard IS true"),
        ("ix_dataset_annotation_by", "dataset_annotation", ["annotated_by", "sample_key"], "annotated_by <> 'human'"),
        ("ix_dataset_annotation_score", "dataset_annotation", ["sample_key", "confidence"], "confidence IS NOT NULL"),
    ):
        only = sa.text(where)
        op.create_index(name, table, columns, unique=False, sqlite_where=only, postgresql_where=only)
