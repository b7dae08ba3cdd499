"""How many samples a dataset has, and how many labeled ones, kept with it."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0011"
down_revision = "dataset_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("sample_count", "labeled_count"):
        op.add_column("dataset_dataset", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    mine = "FROM dataset_sample WHERE dataset_key = dataset_dataset.key"
    op.execute(
        f"UPDATE dataset_dataset SET sample_count = (SELECT count(*) {mine}), "  # noqa: S608  # names of tables only
        f"labeled_count = (SELECT count(*) {mine} AND labeled)"
    )
