"""Webhooks for which more waits than is kept in the database."""

import sqlalchemy as sa
from alembic import op

revision = "notify_0003"
down_revision = "notify_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("notify_webhook", schema=None) as batch_op:
        batch_op.add_column(sa.Column("overflows", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("notify_webhook", schema=None) as batch_op:
        batch_op.alter_column("overflows", server_default=None)
