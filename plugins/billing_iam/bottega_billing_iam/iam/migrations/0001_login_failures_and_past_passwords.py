"""Login failures and past passwords."""

import sqlalchemy as sa
from alembic import op

revision = "iam_0001"
down_revision = None
branch_labels = ("iam",)
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table(
        "iam_login_failure",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_iam_login_failure_at", "iam_login_failure", ["at"], unique=False)
    op.create_index("ix_iam_login_failure_who", "iam_login_failure", ["who", "at"], unique=False)
    op.create_table(
        "iam_past_password",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_iam_past_password_user_id", "iam_past_password", ["user_id"], unique=False)
