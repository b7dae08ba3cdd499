"""SSH key pairs of users, by which notebooks are reached from an editor or a shell (003 §10.3)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
    ssh_key_fingerprint,
)
from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, func, select

from bottega.database import AsyncSession
from bottega.errors import Conflict, Invalid, NotFound, QuotaExceeded
from bottega.platform import Platform
from bottega_notebook.entities import KeyPair

MOST = 100
"""Key pairs of one user in one project."""
_LEAST_RSA_BITS = 2048


class KeyPairs:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def create(
        self, project_id: str, user_id: str, name: str, public_key: str | None, description: str = ""
    ) -> tuple[KeyPair, str | None]:
        """Keep the public key that is given; without one make a pair (Ed25519), whose private key is kept nowhere.

        Returns the pair, and the new private key in OpenSSH's format. Raises Invalid for what is no public key,
        Conflict for a name that is taken, QuotaExceeded.
        """
        private_key = None
        if public_key is None:
            made = Ed25519PrivateKey.generate()
            private_key = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
            public_key = made.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        line, fingerprint = _read(public_key)
        pair = KeyPair(
            project_id=project_id,
            user_id=user_id,
            name=name,
            public_key=line,
            fingerprint=fingerprint,
            description=description,
        )
        try:
            async with self._platform.database.transaction() as tx:
                held = select(func.count()).select_from(KeyPair).where(*_of(project_id, user_id))
                if (await tx.session.exec(held)).one() >= MOST:
                    raise QuotaExceeded(f"you have {MOST} key pairs in this project, the most there may be; delete one")
                tx.session.add(pair)
        except IntegrityError as e:
            raise Conflict(f"you have a key pair '{name}' already") from e
        return pair, private_key

    async def list(self, project_id: str, user_id: str, after: int, limit: int) -> Sequence[KeyPair]:
        """Those behind the one with the key `after`, oldest first."""
        query = select(KeyPair).where(*_of(project_id, user_id), col(KeyPair.key) > after)
        query = query.order_by(col(KeyPair.key)).limit(limit)
        async with self._platform.database.read() as session:
            return (await session.exec(query)).all()

    async def get(self, project_id: str, user_id: str, name: str) -> KeyPair:
        """Raises NotFound."""
        async with self._platform.database.read() as session:
            return (await self.named(session, project_id, user_id, [name]))[0]

    async def describe(self, project_id: str, user_id: str, name: str, description: str) -> None:
        """Raises NotFound."""
        async with self._platform.database.transaction() as tx:
            (pair,) = await self.named(tx.session, project_id, user_id, [name])
            pair.description = description
            tx.session.add(pair)

    async def delete(self, project_id: str, user_id: str, name: str) -> None:
        """It opens nothing from now on, and what it has opened ends soon. Raises NotFound."""
        async with self._platform.database.transaction() as tx:
            (pair,) = await self.named(tx.session, project_id, user_id, [name])
            await tx.session.delete(pair)

    @staticmethod
    async def named(session: AsyncSession, project_id: str, user_id: str, names: Iterable[str]) -> Sequence[KeyPair]:
        """A user's key pairs, in the order of their names. Raises NotFound for the first that there is not."""
        wanted = list(dict.fromkeys(names))
        query = select(KeyPair).where(*_of(project_id, user_id), col(KeyPair.name).in_(wanted))
        rows = (await session.exec(query)).all()
        found = {row.name: row for row in rows}
        for name in wanted:
            if name not in found:
                raise NotFound(f"you have no key pair '{name}' in this project")
        return [found[name] for name in wanted]

    @staticmethod
    async def of(session: AsyncSession, keys: Sequence[int]) -> Sequence[KeyPair]:
        """What is left of those that were chosen for a notebook."""
        return (await session.exec(select(KeyPair).where(col(KeyPair.key).in_(keys)))).all() if keys else []


def _of(project_id: str, user_id: str) -> tuple[ColumnElement[bool], ...]:
    return col(KeyPair.project_id) == project_id, col(KeyPair.user_id) == user_id


def _read(text: str) -> tuple[str, str]:
    """Type and data of a public key without its comment, and its fingerprint. Raises Invalid."""
    try:
        key = load_ssh_public_key(text.strip().encode())
        data = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        digest = b64encode(ssh_key_fingerprint(key, SHA256())).decode()
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise Invalid(
            "keypair.public_key: is no public key of OpenSSH; it begins with ssh-ed25519, ecdsa-sha2-… or ssh-rsa, as "
            f"in the file id_ed25519.pub ({str(e)[:100]})"
        ) from e
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise Invalid(f"keypair.public_key: an RSA key of {key.key_size} bits is too weak; {_LEAST_RSA_BITS} at least")
    return data, f"SHA256:{digest.rstrip('=')}"  # as ssh-keygen says it
