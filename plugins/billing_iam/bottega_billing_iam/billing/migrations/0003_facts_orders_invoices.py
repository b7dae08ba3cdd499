"""Facts of every measure, orders, invoices."""

import sqlalchemy as sa
from alembic import op

from bottega_billing_iam.billing.append_only import protect, refuse

revision = "billing_0003"
down_revision = "billing_0002"
branch_labels = None
depends_on = None

KEPT = (
    "id", "account_id", "project_id", "user_id", "kind", "flavor", "measure", "quantity", "resource_urn", "started_at",
)  # fmt: skip


def upgrade() -> None:
    with op.batch_alter_table("billing_usage") as batch:
        batch.alter_column("workload_id", new_column_name="id")
        batch.alter_column("node_count", new_column_name="quantity", type_=sa.BigInteger())
        batch.add_column(sa.Column("measure", sa.String(), nullable=False, server_default="node"))
    changed = " OR ".join(f"NEW.{column} <> OLD.{column}" for column in KEPT)
    refuse(
        op,
        "billing_usage",
        "UPDATE",
        f"OLD.finished_at IS NOT NULL OR {changed}",
        "a usage fact changes only by being finished",
    )
    refuse(op, "billing_usage", "DELETE", "1 = 1", "usage facts are kept")
    op.create_table(
        "billing_order",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("order_no", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("workspace_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("user_name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("months", sa.Integer(), nullable=False),
        sa.Column("flavors", sa.JSON(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("micro", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False),
        sa.Column("ends", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "order_no"),
    )
    op.create_index("ix_billing_order_account", "billing_order", ["account_id", "kind", "ends"], unique=False)
    op.create_table(
        "billing_invoice",
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("micro", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("account_id", "month"),
    )
    op.create_table(
        "billing_invoiced_entry",
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    op.create_index(op.f("ix_billing_invoiced_entry_number"), "billing_invoiced_entry", ["number"], unique=False)
    protect(op, "billing_order", "billing_invoice", "billing_invoiced_entry")
