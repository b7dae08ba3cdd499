"""What is different in a version from the one before."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0007"
down_revision = "dataset_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset_version", sa.Column("changes", sa.JSON(none_as_null=True), nullable=True))
