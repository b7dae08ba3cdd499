"""An index of the usage that runs, so that looking at budgets does not read all there ever was."""

import sqlalchemy as sa
from alembic import op

revision = "billing_0005"
down_revision = "billing_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    runs = sa.text("finished_at IS NULL")
    op.create_index(
        "ix_billing_usage_running", "billing_usage", ["account_id"], sqlite_where=runs, postgresql_where=runs
    )
