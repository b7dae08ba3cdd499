"""What other suggestions of a sample name a suggestion by."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0009"
down_revision = "dataset_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset_suggestion", sa.Column("annotation_id", sa.String(), nullable=True))
