"""What plugins tell each other of a resource moves out of the tags, which are its users'."""

import sqlalchemy as sa
from alembic import op

revision = "core_0003"
down_revision = "core_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("core_resource", schema=None) as batch_op:
        batch_op.add_column(sa.Column("properties", sa.JSON(), nullable=False, server_default="{}"))

    op.execute("UPDATE core_resource SET properties = tags, tags = '{}'")
