"""Passwords: their rules, and argon2id hashing outside the event loop."""

from __future__ import annotations

import re

import anyio
from anyio.to_thread import run_sync
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from bottega.errors import Invalid

_KINDS = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")
MAX_LENGTH = 128


def check_strength(password: str, user_name: str) -> None:
    """Raises Invalid unless it has 8 to 128 characters of two kinds and does not hold the user's name."""
    if not 8 <= len(password) <= MAX_LENGTH:
        raise Invalid(f"password: has {len(password)} characters; use 8 to {MAX_LENGTH}")
    if sum(bool(re.search(kind, password)) for kind in _KINDS) < 2:
        raise Invalid("password: use at least two of lower case, upper case, digits and other characters")
    if user_name.lower() in password.lower() or user_name.lower() in password.lower()[::-1]:
        raise Invalid("password: must not contain the user's name, forwards or backwards")


class Passwords:
    """Hashes and compares, few at a time: each takes about 64 MB and some tens of milliseconds of a core."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._at_once = anyio.CapacityLimiter(2)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        return await run_sync(self._hasher.hash, password, limiter=self._at_once)

    async def matches(self, hashed: str | None, password: str) -> bool:
        """Whether `password` is the one hashed; as slow for a user without one, so guessing names gains nothing."""
        if hashed is not None:
            return await run_sync(self._verify, hashed, password, limiter=self._at_once)
        self._nobody = self._nobody or await self.hash("nobody's password")
        await run_sync(self._verify, self._nobody, password, limiter=self._at_once)
        return False

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False
