"""Key pairs, and which of them open a notebook over SSH."""

import sqlalchemy as sa
from alembic import op

revision = "notebook_0003"
down_revision = "notebook_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notebook_instance", sa.Column("key_pairs", sa.JSON(), server_default="[]", nullable=False))
    op.create_table(
        "notebook_key_pair",
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("public_key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("project_id", "user_id", "name"),
    )
    op.create_index("ix_notebook_key_pair_user_id", "notebook_key_pair", ["user_id"])
