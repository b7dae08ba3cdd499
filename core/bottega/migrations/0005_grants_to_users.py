"""Grants to users."""

import sqlalchemy as sa
from alembic import op

revision = "core_0005"
down_revision = "core_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("core_policy_grant", schema=None) as batch_op:
        batch_op.add_column(sa.Column("user_id", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_core_policy_grant_user_id"), ["user_id"], unique=False)
        batch_op.create_foreign_key("fk_core_policy_grant_user", "core_user", ["user_id"], ["id"])
