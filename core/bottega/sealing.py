"""Secrets and personal data at rest: AES-256-GCM under the keys of a file in the data directory.

A column is declared with `sealed()`; its text goes in and out by `Sealer.write` and `Sealer.read`. What is sealed names
its key, so the key can be changed while the platform runs (`bottega.rotation`)::

    class Webhook(SQLModel, table=True):
        id: str = Field(primary_key=True)
        secret: bytes | None = sealed(nullable=True)

    sealer.write(webhook, "secret", "s3cr3t")
    sealer.read(webhook, "secret")  # "s3cr3t"
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, LargeBinary, Table
from sqlmodel import Field, SQLModel

from bottega.errors import ConfigError
from bottega.private_files import private_directory, write_private

_NONCE = 12
_MARK = b"BSK1"
_MARKED = len(_MARK) + 4
MARKER = "sealed"
"""Under this name a column's ``info`` says that it is sealed, and for what purpose."""


def sealed(purpose: str | None = None, *, nullable: bool = False) -> Any:
    """A column of sealed text, of type ``bytes``.

    :param purpose: a format over the row's columns that binds the text to its place, so that it cannot be moved to
        another row; by default table, column and primary key.
    """
    column: Column[Any] = Column(LargeBinary, nullable=nullable, info={MARKER: purpose})
    return Field(default=None, sa_column=column) if nullable else Field(sa_column=column)


def purpose_of(column: Column[Any], row: Mapping[str, Any]) -> str:
    """What a sealed column's text is bound to in `row` (column names to values)."""
    written: str | None = column.info[MARKER]
    if written is not None:
        return written.format_map(row)
    table = column.table
    assert isinstance(table, Table)
    return f"{table.name}.{column.name}:" + "/".join(str(row[key.name]) for key in table.primary_key)


class Sealer:
    """Seals with the last of its keys and opens with any."""

    def __init__(self, *keys: bytes, file: Path | None = None) -> None:
        self._file = file
        self._take(list(keys))

    def _take(self, keys: list[bytes]) -> None:
        self._ciphers = {_MARK + hashlib.sha256(key).digest()[:4]: AESGCM(key) for key in keys}
        self._keys = keys
        self.header = list(self._ciphers)[-1]
        """What everything begins with that is sealed with the present key."""

    @classmethod
    def load_or_create(cls, path: Path) -> Sealer:
        """Read the keys (64 hexadecimal digits a line), making one at the first start.

        Raises ConfigError when the file is damaged.
        """
        if not path.exists():
            private_directory(path.parent)
            write_private(path, AESGCM.generate_key(256).hex())
        try:
            return cls(*(bytes.fromhex(line) for line in path.read_text("ascii").split()), file=path)
        except (ValueError, IndexError) as e:
            raise ConfigError(f"the key file {path} is damaged; restore it from a backup") from e

    @property
    def key_ids(self) -> list[str]:
        """The keys there are, the one that seals last; more than one: what the earlier ones sealed is being renewed."""
        return [header[len(_MARK) :].hex() for header in self._ciphers]

    def add_key(self) -> None:
        """Seal with a new key from now on. It is in the file before anything is sealed with it."""
        keys = [*self._keys, AESGCM.generate_key(256)]
        self._save(keys)
        self._take(keys)

    def drop_earlier_keys(self) -> None:
        """Forget all keys but the present one. What they sealed cannot be opened afterwards."""
        keys = self._keys[-1:]
        self._save(keys)
        self._take(keys)

    def _save(self, keys: list[bytes]) -> None:
        assert self._file is not None, "keys that came from no file do not change"
        write_private(self._file, "\n".join(key.hex() for key in keys))

    def seal(self, text: str, purpose: str) -> bytes:
        """Encrypt; `purpose` binds the result to its place, so it cannot be moved to another row."""
        nonce = os.urandom(_NONCE)
        return self.header + nonce + self._ciphers[self.header].encrypt(nonce, text.encode(), purpose.encode())

    def unseal(self, sealed: bytes, purpose: str) -> str:
        """Raises ConfigError when no key is the one it was sealed with, or the data was changed."""
        named = self._ciphers.get(sealed[:_MARKED])
        # What was sealed before there were several keys names none; it can be of any that was there then.
        tries = [(named, sealed[_MARKED:])] if named else [(cipher, sealed) for cipher in self._ciphers.values()]
        for cipher, data in tries:
            try:
                return cipher.decrypt(data[:_NONCE], data[_NONCE:], purpose.encode()).decode()
            except (InvalidTag, ValueError):
                continue
        raise ConfigError(f"a stored secret ({purpose}) cannot be read: wrong key file or damaged data")

    def write(self, row: SQLModel, column: str, text: str | None) -> None:
        """Seal `text` into a column declared with `sealed()`; the row must have its primary key."""
        setattr(row, column, None if text is None else self.seal(text, purpose_of(*_place(row, column))))

    def read(self, row: SQLModel, column: str) -> str | None:
        """The text in a column declared with `sealed()`. Raises ConfigError as `unseal` does."""
        value: bytes | None = getattr(row, column)
        return None if value is None else self.unseal(value, purpose_of(*_place(row, column)))


def _place(row: SQLModel, column: str) -> tuple[Column[Any], Mapping[str, Any]]:
    table: Table = type(row).__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
    return table.columns[column], {name: getattr(row, name) for name in table.columns.keys()}  # noqa: SIM118  # not a dict
