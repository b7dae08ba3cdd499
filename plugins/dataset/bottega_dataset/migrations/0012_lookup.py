"""Names and folders of samples that came together, to find them by."""

import sqlalchemy as sa
from alembic import op

revision = "dataset_0012"
down_revision = "dataset_0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_lookup",
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("texts", sa.LargeBinary(), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("what", "first"),
    )
