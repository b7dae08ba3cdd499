"""Hashing and comparing passwords (argon2id), outside the event loop."""

from __future__ import annotations

import anyio
from anyio.to_thread import run_sync
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MAX_LENGTH = 128


class PasswordHashes:
    """Few at a time: each takes about 64 MB and some tens of milliseconds of a core."""

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
