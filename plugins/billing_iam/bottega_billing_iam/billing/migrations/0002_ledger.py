"""Ledger."""

import sqlalchemy as sa
from alembic import op

from bottega_billing_iam.billing.append_only import protect, refuse

revision = "billing_0002"
down_revision = "billing_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "billing_payer",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("settled_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id"),
    )
    op.create_table(
        "billing_entry",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("posted_at", sa.BigInteger(), nullable=False),
        sa.Column("memo", sa.String(), nullable=False),
        sa.Column("corrects", sa.String(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("ix_billing_entry_account", "billing_entry", ["account_id", "at"], unique=False)
    op.create_table(
        "billing_posting",
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("book", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["billing_entry.id"], deferrable=True, initially="DEFERRED"),
        sa.PrimaryKeyConstraint("entry_id", "line"),
    )
    op.create_index(
        "ix_billing_posting_book", "billing_posting", ["account_id", "book", "unit", "amount"], unique=False
    )
    protect(op, "billing_entry", "billing_posting")
    # The postings come first and their entry closes them: from then on none is added, and they balance.
    refuse(
        op,
        "billing_posting",
        "INSERT",
        "EXISTS (SELECT 1 FROM billing_entry WHERE id = NEW.entry_id)",
        "the ledger entry is closed",
    )
    refuse(
        op,
        "billing_entry",
        "INSERT",
        "EXISTS (SELECT 1 FROM billing_entry WHERE id = NEW.id OR key = NEW.key)"
        " OR NOT EXISTS (SELECT 1 FROM billing_posting WHERE entry_id = NEW.id)"
        " OR EXISTS (SELECT 1 FROM billing_posting WHERE entry_id = NEW.id GROUP BY unit HAVING SUM(amount) <> 0)"
        " OR EXISTS (SELECT 1 FROM billing_posting WHERE entry_id = NEW.id AND account_id <> NEW.account_id)",
        "the ledger entry does not balance, or stands already",
    )
