"""What auto-labeling adds: hardness and the order of labeling beside suggestions, and groups."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0005"
down_revision = "dataset_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset_suggestion", sa.Column("hard", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("dataset_suggestion", sa.Column("rank", sa.Integer(), nullable=True))
    op.create_table(
        "dataset_group_member",
        sa.Column("sample_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("distance", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("sample_key"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_dataset_group_member_number", "dataset_group_member", ["task_id", "number", "distance"], unique=False
    )
