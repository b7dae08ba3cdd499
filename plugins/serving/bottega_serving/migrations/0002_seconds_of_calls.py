"""Seconds of calls."""

import sqlalchemy as sa
from alembic import op

revision = "serving_0002"
down_revision = "serving_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("serving_calls", schema=None) as batch_op:
        batch_op.add_column(sa.Column("seen_seconds", sa.Float(), nullable=False, server_default="0"))
