"""Secrets and personal data at rest: AES-256-GCM under a key file of the data directory."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bottega.errors import ConfigError
from bottega.private_files import private_directory, write_private

_NONCE = 12


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def load_or_create(cls, path: Path) -> Sealer:
        """Read the key (64 hexadecimal digits), making one at the first start. Raises ConfigError when damaged."""
        if not path.exists():
            private_directory(path.parent)
            write_private(path, AESGCM.generate_key(256).hex())
        try:
            return cls(bytes.fromhex(path.read_text("ascii")))
        except ValueError as e:
            raise ConfigError(f"the key file {path} is damaged; restore it from a backup") from e

    def seal(self, text: str, purpose: str) -> bytes:
        """Encrypt; `purpose` binds the result to its place, so it cannot be moved to another row."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, text.encode(), purpose.encode())

    def unseal(self, sealed: bytes, purpose: str) -> str:
        """Raises ConfigError when the key is not the one it was sealed with or the data was changed."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], purpose.encode()).decode()
        except InvalidTag as e:
            raise ConfigError(f"a stored secret ({purpose}) cannot be read: wrong key file or damaged data") from e
