"""Passwords: an account's rules for them, and their history."""

from __future__ import annotations

import re
from itertools import combinations, groupby

from sqlmodel import col, delete, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import User
from bottega.errors import Invalid
from bottega.passwords import MAX_LENGTH, PasswordHashes

from .entities import PastPassword
from .security import DAY_MS, MINUTE_MS, PasswordPolicy

_KINDS = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")
_COUNTS = {2: "two", 3: "three", 4: "four"}
_REMEMBERED = 10
"""The most recent passwords a policy can forbid to use again."""


def check_strength(password: str, user_name: str, policy: PasswordPolicy) -> None:
    """Raises Invalid, saying what is missing, unless the password follows the account's policy."""
    least, kinds = policy.minimum_password_length, policy.password_char_combination
    if not least <= len(password) <= MAX_LENGTH:
        raise Invalid(f"password: has {len(password)} characters; use {least} to {MAX_LENGTH}")
    if sum(bool(re.search(kind, password)) for kind in _KINDS) < kinds:
        raise Invalid(f"password: use at least {_COUNTS[kinds]} of lower case, upper case, digits and other characters")
    most = policy.maximum_consecutive_identical_chars
    if most and any(len(list(run)) > most for _, run in groupby(password)):
        raise Invalid(f"password: has the same character more than {most} times in a row")
    name, given = user_name.lower(), password.lower()
    if policy.password_not_username_or_invert and (name in given or name in given[::-1]):
        raise Invalid("password: must not contain the user's name, forwards or backwards")


def check_age(user: User, policy: PasswordPolicy) -> None:
    """Raises Invalid when a user changes its own password sooner than the policy lets it."""
    age = now_ms() - (user.password_changed_at or 0)
    if age < policy.minimum_password_age * MINUTE_MS:
        raise Invalid(f"password: was changed less than {policy.minimum_password_age} minutes ago; wait, or ask for it")


def expires_at(user: User, policy: PasswordPolicy) -> int | None:
    """When the user's password must have been changed (epoch ms); None: never."""
    if not policy.password_validity_period or user.password_hash is None:
        return None
    return (user.password_changed_at or user.created_at) + policy.password_validity_period * DAY_MS


def requirements(policy: PasswordPolicy) -> str:
    """The rules of a policy in words."""
    text = (
        f"{policy.minimum_password_length} to {MAX_LENGTH} characters with at least "
        f"{_COUNTS[policy.password_char_combination]} of lower case, upper case, digits and other characters"
    )
    if policy.password_not_username_or_invert:
        text += "; not the user's name, forwards or backwards"
    return text


def pattern(policy: PasswordPolicy) -> str:
    """A regular expression that passwords by this policy match: their length and kinds of characters."""
    chosen = combinations([f"(?=.*{kind})" for kind in _KINDS], policy.password_char_combination)
    kinds = "|".join("".join(kinds) for kinds in chosen)
    return f"^(?:{kinds}).{{{policy.minimum_password_length},{MAX_LENGTH}}}$"


class Passwords(PasswordHashes):
    """The hashes of users' passwords, and those they had before."""

    async def check_unused(self, session: AsyncSession, user: User, password: str, policy: PasswordPolicy) -> None:
        """Raises Invalid when the password is among the user's most recent ones that the policy forbids."""
        forbidden = policy.number_of_recent_passwords_disallowed
        if not forbidden:
            return
        query = select(PastPassword.password_hash).where(PastPassword.user_id == user.id)
        earlier = (await session.exec(query.order_by(col(PastPassword.at).desc()).limit(forbidden - 1))).all()
        for hashed in ([user.password_hash] if user.password_hash else []) + list(earlier):
            if await self.matches(hashed, password):
                raise Invalid(f"password: is one of the last {forbidden} of this user; choose another")


async def remember(tx: Transaction, user: User) -> None:
    """Keep the hash of the password that `user` has had until now, and as many earlier ones as a policy can ask for."""
    if user.password_hash is None:
        return
    tx.session.add(PastPassword(user_id=user.id, password_hash=user.password_hash))
    await tx.session.flush()
    query = select(PastPassword.id).where(PastPassword.user_id == user.id)
    over = (await tx.session.exec(query.order_by(col(PastPassword.at).desc()).offset(_REMEMBERED))).all()
    await tx.session.exec(delete(PastPassword).where(col(PastPassword.id).in_(over)))
