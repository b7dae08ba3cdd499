"""The ledger: append-only and double-entry. What an account has, owes and was charged is a sum of its postings.

Every account has books of its own. An entry moves amounts between them and balances to zero in each unit:

    recharge   cash −100      balance +100        CNY
    usage      balance −7     revenue +7          CNY
    package    balance −50    revenue +50         CNY
               package/<id> +3600    used −3600   node_second

Money is counted in whole millionths of a currency's unit, as in the price list. Nothing is ever changed: a mistake is
corrected by a further entry that says what it corrects. The database enforces both (`ledger_entities`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, insert, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import Conflict, Invalid
from bottega.events import uuid7
from bottega.urn import PLATFORM, Urn

from .events import EntryPosted
from .ledger_entities import Entry, Payer, Posting

BALANCE = "balance"
"""What the account has with the operator; negative: what it owes."""
CASH = "cash"
"""What the account paid in from outside, counted negative."""
REVENUE = "revenue"
"""What the account was charged."""
GRANT = "grant"
"""What the operator gave the account, counted negative."""
_AT_ONCE = 500
_POSTINGS: Any = inspect(Posting).local_table
_ENTRIES: Any = inspect(Entry).local_table


@dataclass(frozen=True, slots=True)
class Move:
    """One side of an entry: `amount` of `unit` (a currency's millionths) into `book`, out of it when negative."""

    book: str
    amount: int
    unit: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be posted. `key` makes it happen once, whoever posts it however often."""

    key: str
    account_id: str
    kind: str
    at: int
    moves: Sequence[Move]
    memo: str = ""
    corrects: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def sums(self) -> dict[str, int]:
        """What the moves add up to, by unit: zero, if it is an entry."""
        sums: defaultdict[str, int] = defaultdict(int)
        for move in self.moves:
            sums[move.unit] += move.amount
        return sums


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a draft; `new` is False when an earlier post of the same key stands."""

    id: str
    new: bool


def transfer(out_of: str, into: str, amount: int, unit: str) -> list[Move]:
    """The two moves of the simplest entry. `amount` in millionths."""
    return [Move(out_of, -amount, unit), Move(into, amount, unit)]


async def lock(tx: Transaction, account_id: str) -> Payer:
    """Have the ledger of one account to oneself until `tx` ends. To check a balance and then post, lock first."""
    dialect: Any = sqlite if tx.session.get_bind().dialect.name == "sqlite" else postgresql
    new = dialect.insert(Payer).values(account_id=account_id, settled_until=0)
    await tx.session.execute(new.on_conflict_do_nothing())
    query = select(Payer).where(Payer.account_id == account_id).with_for_update()
    return (await tx.session.exec(query.execution_options(populate_existing=True))).one()


async def post(tx: Transaction, draft: Draft) -> Posted:
    """Write an entry, unless one of its key stands already.

    Raises Conflict when that one says something else, Invalid when the draft does not balance.
    """
    await lock(tx, draft.account_id)
    return (await post_all(tx, [draft]))[0]


async def post_all(tx: Transaction, drafts: Sequence[Draft]) -> list[Posted]:
    """`post` for many entries of accounts that the caller has locked."""
    for draft in drafts:
        wrong = {unit: amount for unit, amount in draft.sums().items() if amount}
        if wrong or not draft.moves:
            raise Invalid(f"entry {draft.key} does not balance: {wrong or 'it moves nothing'}")
    known = await _known(tx.session, drafts)
    posted, entries, postings = [], [], []
    for draft in drafts:
        if (stands := known.get(draft.key)) is not None:
            if _said(draft) != stands[1]:
                raise Conflict(f"entry {draft.key} is in the ledger already and says something else")
            posted.append(Posted(stands[0], False))
            continue
        ident = uuid7()
        known[draft.key] = (ident, _said(draft))
        posted.append(Posted(ident, True))
        entries.append(
            {
                "id": ident,
                "key": draft.key,
                "account_id": draft.account_id,
                "kind": draft.kind,
                "at": draft.at,
                "posted_at": now_ms(),
                "memo": draft.memo,
                "corrects": draft.corrects,
                "details": draft.details,
            }
        )
        postings += [
            (ident, n, draft.account_id, m.book, m.unit, m.amount, m.source) for n, m in enumerate(draft.moves)
        ]
        _announce(tx, draft, ident)
    if entries:
        await tx.session.flush()
        names = ("entry_id", "line", "account_id", "book", "unit", "amount", "source")
        await tx.session.execute(insert(_POSTINGS), [dict(zip(names, row, strict=True)) for row in postings])
        await tx.session.execute(insert(_ENTRIES), entries)
    return posted


async def balance(
    session: AsyncSession, account_id: str, unit: str, book: str = BALANCE, *, before: int | None = None
) -> int:
    """What a book of an account holds (money: millionths), of entries about times `before` that one, if given."""
    query = select(func.coalesce(func.sum(Posting.amount), 0)).where(
        Posting.account_id == account_id, Posting.book == book, Posting.unit == unit
    )
    if before is not None:
        query = query.join(Entry, col(Entry.id) == Posting.entry_id).where(Entry.at < before)
    return int((await session.exec(query)).one())


async def books(session: AsyncSession, account_id: str) -> dict[tuple[str, str], int]:
    """Every book of an account: (book, unit) → what it holds. They add up to zero in each unit."""
    query = (
        select(Posting.book, Posting.unit, func.sum(Posting.amount))
        .where(Posting.account_id == account_id)
        .group_by(Posting.book, Posting.unit)
    )
    return {(book, unit): int(held) for book, unit, held in (await session.exec(query)).all()}


async def statement(
    session: AsyncSession, account_id: str, unit: str, *, start: int = 0, end: int = 2**62, limit: int, offset: int = 0
) -> list[tuple[Entry, int]]:
    """The entries that moved the balance of an account, by the time they are about, with how much they moved it."""
    query = (
        select(Entry, func.sum(Posting.amount))
        .join(Posting, col(Posting.entry_id) == Entry.id)
        .where(Entry.account_id == account_id, Entry.at >= start, Entry.at < end)
        .where(Posting.book == BALANCE, Posting.unit == unit)
        .group_by(col(Entry.id))
        .order_by(col(Entry.at), col(Entry.id))
    )
    return [(entry, int(sum_)) for entry, sum_ in (await session.exec(query.offset(offset).limit(limit))).all()]


def _said(draft: Draft) -> tuple[object, ...]:
    sums: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for move in draft.moves:
        sums[move.book, move.unit, move.source] += move.amount
    return draft.account_id, draft.kind, draft.at, tuple(sorted((k, v) for k, v in sums.items() if v))


async def _known(session: AsyncSession, drafts: Iterable[Draft]) -> dict[str, tuple[str, tuple[object, ...]]]:
    """The id and the content of the entries that stand under the keys of `drafts`."""
    keys = [draft.key for draft in drafts]
    found: dict[str, tuple[str, tuple[object, ...]]] = {}
    for begin in range(0, len(keys), _AT_ONCE):
        some = col(Entry.key).in_(keys[begin : begin + _AT_ONCE])
        for entry in (await session.exec(select(Entry).where(some))).all():
            rows = (await session.exec(select(Posting).where(Posting.entry_id == entry.id))).all()
            moves = [Move(row.book, row.amount, row.unit, row.source) for row in rows]
            found[entry.key] = entry.id, _said(Draft(entry.key, entry.account_id, entry.kind, entry.at, moves))
    return found


def _announce(tx: Transaction, draft: Draft, ident: str) -> None:
    for unit in draft.sums():
        moved = sum(move.amount for move in draft.moves if move.book == BALANCE and move.unit == unit)
        if moved:
            tx.speaking_as("billing").emit(
                EntryPosted(
                    account_id=draft.account_id, entry_id=ident, kind=draft.kind, at=draft.at, unit=unit, moved=moved
                ),
                Urn("billing", PLATFORM, "account", draft.account_id),
            )
