"""The tables of the ledger. The database itself refuses to change or delete their rows (`append_only`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKeyConstraint, Index
from sqlmodel import Field, SQLModel

from bottega.context import now_ms


class Payer(SQLModel, table=True):
    """An account as billing knows it; its row is what serializes work on the account's ledger.

    `settled_until` (epoch ms, on the hour): usage before it is in the ledger. A late fact moves it back.
    """

    __tablename__ = "billing_payer"
    account_id: str = Field(primary_key=True)
    settled_until: int = Field(default=0, sa_type=BigInteger)


class Entry(SQLModel, table=True):
    """One thing that happened to an account's money or packages. Its postings balance to zero in each unit.

    `at` is the time it is about, `posted_at` when it was written. `corrects` is the id of the entry it corrects.
    """

    __tablename__ = "billing_entry"
    __table_args__ = (Index("ix_billing_entry_account", "account_id", "at"),)
    id: str = Field(primary_key=True)
    key: str = Field(unique=True)
    account_id: str
    kind: str
    at: int = Field(sa_type=BigInteger)
    posted_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
    memo: str = ""
    corrects: str | None = None
    details: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class Posting(SQLModel, table=True):
    """One side of an entry: `amount` of `unit` into a book of the account (out of it when negative).

    Units are currencies, counted in millionths, and ``node_second``. `source` is the usage fact it was made from.
    """

    __tablename__ = "billing_posting"
    __table_args__ = (
        # Postings are written before the entry that closes them, in one transaction.
        ForeignKeyConstraint(["entry_id"], ["billing_entry.id"], deferrable=True, initially="DEFERRED"),
        Index("ix_billing_posting_book", "account_id", "book", "unit", "amount"),
    )
    entry_id: str = Field(primary_key=True)
    line: int = Field(primary_key=True)
    account_id: str
    book: str
    unit: str
    amount: int = Field(sa_type=BigInteger)
    source: str = ""
