"""Addresses a notebook may be opened from."""

import sqlalchemy as sa
from alembic import op

revision = "notebook_0002"
down_revision = "notebook_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("notebook_instance", sa.Column("allowed_ips", sa.JSON(), server_default="[]", nullable=False))
