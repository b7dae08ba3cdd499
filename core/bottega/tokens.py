"""Tokens: signed JSON documents (JWT, EdDSA) that say who acts and until when.

Several signing keys are accepted and the newest signs, so the key can be changed without ending what was issued.
A token ends before its time with its user, its agency, a new password of its user (`User.tokens_valid_from`), when it
is revoked by itself, or with the token or access key that it was made with.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlmodel import col, delete, select

from bottega.context import Principal, now_ms
from bottega.database import Database, Transaction
from bottega.entities import Agency, Credential, RevokedToken, User
from bottega.errors import Forbidden, Unauthenticated
from bottega.events import Event
from bottega.private_files import private_directory, write_private
from bottega.signing import FOR_SIGNING, temporary_access_key, temporary_secret
from bottega.urn import PLATFORM, Urn

_ALGORITHM = "EdDSA"
_FIRST_KEY = "token-signing-key.pem"
_LONGEST_CHAIN = 16
"""So many tokens may be made, each with the one before: a token names them all, and travels in a header."""
_KEPT_MS = 7 * 86_400_000
"""An earlier signing key is accepted this long after it stopped to sign; no token lives longer."""


class InvalidToken(Unauthenticated):
    """The token is not valid."""

    code = "APIGW.0307"


class TokenRevoked(Event, type="core.account.token_revoked.v1"):
    """A token ended before its time. The token itself is not told."""

    account_id: str
    user_id: str
    token_id: str


@dataclass(frozen=True, slots=True)
class TemporaryKey:
    """Goes with every request: `security_token` in ``X-Security-Token``, signed. `expires_at` is epoch ms."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str = field(repr=False)
    expires_at: int


class SigningKeys:
    """The key files of an installation (mode 0600), named by when they were made."""

    def __init__(self, directory: Path) -> None:
        self._directory = private_directory(directory)
        if not self._files():
            _write_key(self._directory / _FIRST_KEY)
        self._load()

    def _files(self) -> list[Path]:
        """Oldest first."""
        later = self._directory.glob("token-signing-key-*.pem")
        first = self._directory / _FIRST_KEY
        return [*([first] if first.exists() else []), *sorted(later, key=lambda path: path.name)]

    def _load(self) -> None:
        self._keys: dict[str, Ed25519PrivateKey] = {}
        for path in self._files():
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            assert isinstance(key, Ed25519PrivateKey)
            self._newest = _key_id(key)
            self._keys[self._newest] = key

    @property
    def public_pems(self) -> list[str]:
        """Every key that is accepted, the newest last; safe to hand to data planes."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return [key.public_key().public_bytes(serialization.Encoding.PEM, form).decode() for key in self._keys.values()]

    @property
    def ids(self) -> list[str]:
        """The ids of the keys that are accepted, the one that signs last."""
        return list(self._keys)

    def rotate(self) -> str:
        """Sign with a new key from now on; what the earlier ones signed stays valid. Returns the new key's id."""
        # Thirteen digits until the year 2286, so the order of names is that of time.
        _write_key(self._directory / f"token-signing-key-{time.time_ns() // 1_000_000}.pem")
        self._load()
        return self._newest

    def prune(self) -> None:
        """Remove keys that nothing valid can be signed with any more."""
        files = self._files()
        for path, successor in itertools.pairwise(files):
            stopped = int(successor.stem.rpartition("-")[2])
            if stopped + _KEPT_MS < now_ms():
                path.unlink()
        self._load()

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self._keys[self._newest], algorithm=_ALGORITHM, headers={"kid": self._newest})

    def secret_of(self, token: str, account_id: str, token_id: str) -> str:
        """The secret key that goes with a security token: nobody can derive it without the key that signed."""
        return temporary_secret(_of_account(self._of(token), account_id), token_id)

    def account_secrets(self, account_id: str) -> list[str]:
        """What the secrets of an account's temporary keys are derived from, in hex, in the order of `public_pems`.

        For the data planes of that account, which check its signatures without asking.
        """
        return [_of_account(key, account_id).hex() for key in self._keys.values()]

    def _of(self, token: str) -> Ed25519PrivateKey:
        # Tokens of before there were several keys name none: they are of the first.
        return self._keys[jwt.get_unverified_header(token).get("kid", next(iter(self._keys)))]

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token, whatever it is for, that has not expired. Raises InvalidToken."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._of(token).public_key(),
                [_ALGORITHM],
                # The platform's clock decides, below; what a token is for, whoever takes it.
                options={
                    "require": ["sub", "exp", "iat", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except (jwt.InvalidTokenError, KeyError, TypeError) as e:
            raise InvalidToken("the token is not one this platform issued") from e
        if claims["exp"] * 1000 <= now_ms():
            raise InvalidToken("the token has expired; get a new one")
        return claims


class Tokens:
    """Issues tokens and tells who holds one. `user` finds an enabled user or raises Unauthenticated."""

    def __init__(self, database: Database, directory: Path, user: Callable[[str], Awaitable[User]]) -> None:
        self.keys = SigningKeys(directory)
        self._database = database
        self._user = user

    def issue(
        self,
        principal: Principal,
        expires_s: float,
        *,
        workload_id: str | None = None,
        session_policy: str | None = None,
        audience: str | None = None,
    ) -> str:
        """A token for `principal`, its scope, agency and limits included; it does not outlive the principal's own.

        :param audience: what else than ``X-Auth-Token`` it is for; it is then good for nothing else.
        :raises Forbidden: it would be made with one that was made with one, and so on, too many times.
        """
        parents = [*principal.parents, principal.token_id] if principal.token_id else []
        if len(parents) > _LONGEST_CHAIN:
            raise Forbidden(
                f"this token was made with a token, and that with another, {_LONGEST_CHAIN} times; "
                "make the next one with a password or an access key"
            )
        now = now_ms() / 1000
        until = now + expires_s
        if principal.expires_at is not None:
            until = min(until, principal.expires_at / 1000)
        claims = {
            "sub": principal.user_id,
            "acc": principal.account_id,
            "iat": now,
            "exp": until,
            "jti": secrets.token_hex(9),
            "prj": principal.scope,
            "agy": principal.agency_id,
            "wid": workload_id,
            "pol": session_policy or principal.session_policy,
            "aud": audience,
            "par": parents,
            "key": principal.access_key,
        }
        return self.keys.sign({name: value for name, value in claims.items() if value})

    def issue_temporary_key(self, principal: Principal, expires_s: float) -> TemporaryKey:
        """An access key that ends by itself. Nothing of it is stored: its security token says all of it."""
        token = self.issue(principal, expires_s, audience=FOR_SIGNING)
        claims = self.keys.verify(token)
        secret = self.keys.secret_of(token, claims["acc"], claims["jti"])
        return TemporaryKey(temporary_access_key(claims["jti"]), secret, token, round(claims["exp"] * 1000))

    async def temporary_key(self, access_key: str, security_token: str) -> tuple[Principal, str]:
        """Whose a temporary access key is, and its secret key. Raises InvalidToken, as `holder` does."""
        principal = await self.holder(security_token, FOR_SIGNING)
        token_id = principal.token_id or ""
        if not hmac.compare_digest(access_key.encode(), temporary_access_key(token_id).encode()):
            raise InvalidToken("X-Security-Token is not the one that was issued with this access key")
        return principal, self.keys.secret_of(security_token, principal.account_id, token_id)

    async def holder(self, token: str, audience: str | None = None) -> Principal:
        """Who holds a token; `expires_at` of it says until when.

        Raises InvalidToken (Unauthenticated) when it is malformed, tampered with, expired, revoked, made for something
        else, or when its user or agency is gone, or what it was made with.
        """
        claims = self._made_for(token, audience)
        user = await self._user(claims["sub"])
        workload_id, agency_id = claims.get("wid"), claims.get("agy")
        principal = Principal(
            claims["acc"] if agency_id else user.account_id,
            user.id,
            user.name,
            "workload" if workload_id else "user",
            user.is_account_root and agency_id is None,
            claims.get("prj"),
            workload_id,
            claims.get("pol"),
            agency_id,
            claims["jti"],
            round(claims["exp"] * 1000),
            round(claims["iat"] * 1000),
            tuple(claims.get("par", ())),
            claims.get("key"),
        )
        return replace(principal, expires_at=await self.check(principal, user))

    async def check(self, principal: Principal, user: User) -> int | None:
        """Until when (epoch ms) the credential of `principal` is good, unless something ends it before that.

        Raises InvalidToken when something has: see `holder`.
        """
        if principal.issued_at is not None and principal.issued_at < user.tokens_valid_from:
            raise InvalidToken("the token was revoked; get a new one")
        agency: Agency | None = None
        async with self._database.read() as session:
            tokens = (*principal.parents, *((principal.token_id,) if principal.token_id else ()))
            if tokens:
                query = select(RevokedToken.token_id).where(col(RevokedToken.token_id).in_(tokens))
                revoked = (await session.exec(query)).first()
                if revoked is not None:
                    what = "the token was" if revoked == principal.token_id else "what this token was made with was"
                    raise InvalidToken(f"{what} revoked; get a new one")
            if principal.access_key is not None:
                key = await session.get(Credential, principal.access_key)
                if key is None or not key.enabled:
                    raise InvalidToken("the access key that this token was made with is gone or disabled")
            if principal.agency_id is not None:
                agency = await session.get(Agency, principal.agency_id)
        if principal.agency_id is None:
            return principal.expires_at
        return _check_agency(agency, user, principal.account_id, principal.expires_at)

    async def claims(self, token: str, audience: str | None = None) -> dict[str, Any]:
        """What a token says that was made for `audience`; whether its subject still exists is the caller's to find out.

        Raises InvalidToken when it is malformed, tampered with, expired, revoked or made for something else.
        """
        claims = self._made_for(token, audience)
        async with self._database.read() as session:
            if await session.get(RevokedToken, claims["jti"]):
                raise InvalidToken("the token was revoked; get a new one")
        return claims

    def _made_for(self, token: str, audience: str | None) -> dict[str, Any]:
        claims = self.keys.verify(token)
        made_for = claims.get("aud")
        if made_for != audience:
            wanted = {None: "X-Auth-Token", FOR_SIGNING: "X-Security-Token beside a signature"}.get(made_for, made_for)
            raise InvalidToken(f"this token is for {wanted} and for nothing else")
        return claims

    async def revoke(self, tx: Transaction, token: str) -> Principal:
        """End a token or a temporary key now, and return whose it was. Raises InvalidToken when it is not valid."""
        claims = self.keys.verify(token)
        principal = await self.holder(token, claims.get("aud"))
        await self.end(tx, claims)
        return principal

    async def end(self, tx: Transaction, claims: Mapping[str, Any]) -> None:
        """Have the token of these claims refused as soon as `tx` commits."""
        token_id = claims["jti"]
        await tx.session.execute(delete(RevokedToken).where(col(RevokedToken.expires_at) <= now_ms()))
        if await tx.session.get(RevokedToken, token_id) is None:
            tx.session.add(RevokedToken(token_id=token_id, expires_at=int(claims["exp"] * 1000) + 1))
        tx.speaking_as("core").emit(
            TokenRevoked(account_id=claims.get("acc", ""), user_id=claims["sub"], token_id=token_id),
            Urn("core", PLATFORM, "user", claims["sub"]),
        )

    async def revoked(self) -> Sequence[str]:
        """The ids of the tokens that were revoked and have not expired yet, for data planes."""
        async with self._database.read() as session:
            query = select(RevokedToken.token_id).where(col(RevokedToken.expires_at) > now_ms())
            return (await session.exec(query)).all()


def _check_agency(agency: Agency | None, user: User, account_id: str, until: int | None) -> int | None:
    """Until when (epoch ms) an agency lets `user` act for `account_id`, at most `until`. Raises InvalidToken."""
    if agency is None or agency.account_id != account_id:
        raise InvalidToken("the agency of these credentials does not exist any more")
    if user.account_id not in (agency.account_id, agency.trusted_account_id):
        raise InvalidToken("the agency of these credentials does not trust the account of their user any more")
    if agency.expires_at is None:
        return until
    if agency.expires_at <= now_ms():
        raise InvalidToken("the agency of these credentials has expired")
    return agency.expires_at if until is None else min(until, agency.expires_at)


def _of_account(key: Ed25519PrivateKey, account_id: str) -> bytes:
    return hmac.digest(key.private_bytes_raw(), b"temporary keys of " + account_id.encode(), "sha256")


def _key_id(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _write_key(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(path, pem.decode())
