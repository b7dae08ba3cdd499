"""What the members of teams say of samples themselves, beside their labels."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0008"
down_revision = "dataset_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset_team_item", sa.Column("said", sa.JSON(none_as_null=True), nullable=True))
