"""What all services of this plugin share: finding an account's own things, their names and URNs."""

from __future__ import annotations

import re
import unicodedata
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from bottega.database import AsyncSession, Transaction
from bottega.entities import Group, Project, User
from bottega.errors import Conflict, Invalid, NotFound
from bottega.urn import PLATFORM, Urn

Owned = TypeVar("Owned", User, Group, Project)

# Logins and project names are ASCII, so that no look-alike of another script passes for them.
_RULES = {
    "user": (r"[A-Za-z][A-Za-z0-9 _.@-]{0,63}", "1 to 64 letters, digits, spaces, _ . @ -, beginning with a letter"),
    "account": (r"[A-Za-z][A-Za-z0-9_.-]{2,63}", "3 to 64 letters, digits, _ . -, beginning with a letter"),
    "project": (r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "1 to 64 letters, digits, _ -"),
    "group": (r"\w[\w .-]{0,127}", "1 to 128 letters, digits, spaces, _ . -"),
    "policy": (r"\w[\w .-]{0,127}", "1 to 128 letters, digits, spaces, _ . -"),
    "workspace": (r"[\w-]{4,64}", "4 to 64 letters, digits, _ -"),
}


def check_name(kind: str, name: str) -> str:
    """The name, in its composed form. Raises Invalid, with the rule, when it breaks it."""
    pattern, rule = _RULES[kind]
    name = unicodedata.normalize("NFKC", name)
    if not re.fullmatch(pattern, name) or name != name.strip():
        raise Invalid(f"name: {name!r} is not a {kind} name; use {rule}")
    return name


async def owned(session: AsyncSession, table: type[Owned], id: str, account_id: str) -> Owned:
    """The account's own user, group or project. Raises NotFound, also for another account's."""
    row = await session.get(table, id)
    if row is None or row.account_id != account_id:
        raise NotFound(f"there is no {table.__name__.lower()} '{id}' in this account")
    return row


async def flush_unique(tx: Transaction, taken: str) -> None:
    """Write what is pending. Raises Conflict with the message `taken` when a unique name exists already."""
    try:
        await tx.session.flush()
    except IntegrityError as e:
        raise Conflict(taken) from e


def iam_urn(kind: str, id: str) -> str:
    return str(Urn("iam", PLATFORM, kind, id))
