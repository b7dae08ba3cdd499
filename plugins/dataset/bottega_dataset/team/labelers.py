"""People who label: found by an e-mail address that is stored encrypted, logging in with a password of their own.

A labeler belongs to one project and is no user of the platform: its token is good for the labeling console's routes
and for nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.headerregistry import Address

from sqlmodel import col, select

from bottega.context import Principal, now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import Invalid, Unauthenticated
from bottega.passwords import MAX_LENGTH, PasswordHashes
from bottega.platform import Platform
from bottega.throttle import Lockout, Throttle, record_as
from bottega_dataset.team.entities import Labeler, LabelerLoginFailure, TeamSecret

AUDIENCE = "the labeling console"
"""What a labeler's token is for; the token itself says so."""
INITIAL_PASSWORD_DAYS = 7
CODE_MINUTES = 30
_MIN_LENGTH = 8
_KINDS = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Session:
    """What a login is worth. `expires_at` is epoch ms."""

    labeler: Labeler
    token: str
    expires_at: int


class Labelers:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._hashes = PasswordHashes()
        self._throttle = Throttle(platform.database, LabelerLoginFailure, platform.settings.labeling_logins_per_address)

    # -- finding -------------------------------------------------------------------------------------------------

    def email(self, labeler: Labeler) -> str:
        return self._platform.sealer.read(labeler, "email") or ""

    async def emails(self, session: AsyncSession, ids: set[str]) -> dict[str, str]:
        """The addresses of labelers by id."""
        rows = (await session.exec(select(Labeler).where(col(Labeler.id).in_(ids)))).all() if ids else []
        return {row.id: self.email(row) for row in rows}

    async def find(self, session: AsyncSession, project_id: str, email: str) -> Labeler | None:
        secret = await session.get(TeamSecret, project_id)
        if secret is None:
            return None
        index = self._index(secret, email)
        query = select(Labeler).where(Labeler.project_id == project_id, Labeler.email_index == index)
        return (await session.exec(query)).first()

    async def ensure(self, tx: Transaction, project_id: str, email: str) -> Labeler:
        """The labeler of an address, made when there is none. Raises Invalid for what is no address."""
        check_email(email)
        found = await self.find(tx.session, project_id, email)
        if found is not None:
            return found
        secret = await tx.session.get(TeamSecret, project_id)
        if secret is None:
            secret = TeamSecret(project_id=project_id)
            self._platform.sealer.write(secret, "index_key", secrets.token_hex(32))
            tx.session.add(secret)
            await tx.session.flush()
        labeler = Labeler(project_id=project_id, email_index=self._index(secret, email))
        self._platform.sealer.write(labeler, "email", email)
        tx.session.add(labeler)
        await tx.session.flush()
        return labeler

    def _index(self, secret: TeamSecret, email: str) -> str:
        key = self._platform.sealer.read(secret, "index_key") or ""
        return hmac.digest(bytes.fromhex(key), email.strip().casefold().encode(), "sha256").hex()

    # -- passwords -----------------------------------------------------------------------------------------------

    async def new_password(self) -> tuple[str, str]:
        """A random initial password and its hash; hashing takes a while, so ask before a transaction begins."""
        password = secrets.token_urlsafe(12)
        return password, await self._hashes.hash(password)

    def set_initial(self, tx: Transaction, labeler: Labeler, hashed: str) -> None:
        """Let a labeler in by an initial password, which has to be changed; what it was logged in with ends."""
        now = now_ms()
        labeler.password_hash, labeler.must_change_password = hashed, True
        labeler.password_expires_at = now + INITIAL_PASSWORD_DAYS * _DAY_MS
        labeler.tokens_valid_from, labeler.code_hash, labeler.code_expires_at = now, None, None
        tx.session.add(labeler)

    async def login(self, project_id: str, email: str, password: str, address: str) -> Session:
        """Raises Unauthenticated, saying no more, or TooManyRequests, whether or not there is such a labeler."""
        await self._throttle.admit(address)
        async with self._platform.database.read() as session:
            labeler = await self.find(session, project_id, email)
        who = self._who(project_id, email)
        async with self._throttle.turn(who):
            await self._throttle.check(who, address, Lockout())
            right = await self._hashes.matches(labeler.password_hash if labeler else None, password)
            expired = labeler is not None and (labeler.password_expires_at or now_ms() + 1) <= now_ms()
            if labeler is None or not right or expired:
                wrong = Unauthenticated(
                    "the e-mail address or the password is wrong, or the initial password is too old"
                )
                record_as(wrong)
                await self._throttle.failed(who, address)
                raise wrong
            async with self._platform.database.transaction() as tx:
                await self._throttle.forget(tx.session, who, address)
                labeler = await tx.session.get_one(Labeler, labeler.id)
                labeler.last_login_at = now_ms()
                tx.session.add(labeler)
        return await self.session(labeler)

    async def session(self, labeler: Labeler) -> Session:
        principal = await self.principal(labeler)
        seconds = self._platform.settings.labeling_session_s
        token = self._platform.identity.tokens.issue(principal, seconds, audience=AUDIENCE)
        return Session(labeler, token, now_ms() + seconds * 1000)

    async def principal(self, labeler: Labeler) -> Principal:
        """How a labeler appears in events and in the audit trail: by id, its address stays where it is encrypted."""
        project = await self._platform.identity.project(labeler.project_id)
        return Principal(project.account_id, labeler.id, labeler.id, "labeler", scope=labeler.project_id)

    async def holder(self, project_id: str, token: str) -> Labeler:
        """Who holds a token. Raises Unauthenticated when it is not valid, or not in this project."""
        claims = await self._platform.identity.tokens.claims(token, AUDIENCE)
        async with self._platform.database.read() as session:
            labeler = await session.get(Labeler, claims["sub"])
        if labeler is None or labeler.project_id != project_id or claims.get("prj") != project_id:
            raise Unauthenticated("the labeling token is not of this project, or its owner is in no team any more")
        if claims["iat"] * 1000 < labeler.tokens_valid_from:
            raise Unauthenticated("the labeling token was revoked; log in again")
        return labeler

    async def logout(self, tx: Transaction, token: str) -> None:
        tokens = self._platform.identity.tokens
        await tokens.end(tx, await tokens.claims(token, AUDIENCE))

    async def change_password(self, labeler: Labeler, old: str, new: str, address: str) -> Session:
        """Raises Invalid for a password that breaks the rules, Unauthenticated when `old` is not the present one."""
        self._check_strength(labeler, new)
        if old == new:
            raise Invalid("new_password: is the present one; choose another")
        who = self._who(labeler.project_id, self.email(labeler))
        async with self._throttle.turn(who):
            await self._throttle.check(who, address, Lockout())
            if not await self._hashes.matches(labeler.password_hash, old):
                wrong = Unauthenticated("old_password is not your password")
                record_as(wrong)
                await self._throttle.failed(who, address)
                raise wrong
        await self._set(labeler.id, await self._hashes.hash(new))
        return await self.session(labeler)

    async def forgotten(self, project_id: str, email: str, address: str) -> tuple[Labeler | None, str]:
        """Who has forgotten its password, and a code to set a new one; None, and a code for nothing, for a stranger.

        Counts like a failed login either way, so that nobody's mailbox is flooded. Raises TooManyRequests.
        """
        await self._throttle.admit(address)
        code, who = secrets.token_urlsafe(16), self._who(project_id, f"forgotten {email}")
        async with self._throttle.turn(who):
            await self._throttle.check(who, address, Lockout())
            await self._throttle.failed(who, address)
        async with self._platform.database.read() as session:
            return await self.find(session, project_id, email), code

    def set_code(self, tx: Transaction, labeler: Labeler, code: str) -> None:
        labeler.code_hash, labeler.code_expires_at = _digest(code), now_ms() + CODE_MINUTES * 60_000
        tx.session.add(labeler)

    async def reset(self, project_id: str, email: str, code: str, new: str, address: str) -> None:
        """Set a password by a one-time code. Raises Unauthenticated, TooManyRequests, Invalid for a weak password."""
        await self._throttle.admit(address)
        who = self._who(project_id, email)
        async with self._throttle.turn(who):
            await self._throttle.check(who, address, Lockout())
            async with self._platform.database.read() as session:
                labeler = await self.find(session, project_id, email)
            valid = labeler is not None and (labeler.code_expires_at or 0) > now_ms()
            known = labeler.code_hash if labeler and labeler.code_hash else _digest("")
            if labeler is None or not hmac.compare_digest(known, _digest(code)) or not valid:
                wrong = Unauthenticated("the code is wrong, was used, or is too old; ask for another one")
                record_as(wrong)
                await self._throttle.failed(who, address)
                raise wrong
            self._check_strength(labeler, new)
            await self._set(labeler.id, await self._hashes.hash(new), code)

    async def _set(self, labeler_id: str, hashed: str, code: str | None = None) -> None:
        async with self._platform.database.transaction() as tx:
            row = await tx.session.get(Labeler, labeler_id, with_for_update=True)
            if row is None or (code is not None and row.code_hash != _digest(code)):
                raise Unauthenticated("the code is wrong, was used, or is too old; ask for another one")
            row.password_hash, row.must_change_password, row.password_expires_at = hashed, False, None
            row.code_hash, row.code_expires_at = None, None
            row.tokens_valid_from = now_ms()
            tx.session.add(row)

    def _check_strength(self, labeler: Labeler, password: str) -> None:
        kinds = sum(bool(re.search(kind, password)) for kind in _KINDS)
        if not _MIN_LENGTH <= len(password) <= MAX_LENGTH or kinds < 2:
            raise Invalid(
                f"new_password: use {_MIN_LENGTH} to {MAX_LENGTH} characters with at least two of lower case, "
                "upper case, digits and other characters"
            )
        name = self.email(labeler).partition("@")[0].lower()
        if len(name) > 2 and name in password.lower():
            raise Invalid("new_password: must not contain your e-mail address's name")

    def _who(self, project_id: str, email: str) -> str:
        """What failures count under, the same for an address that is known and one that is not."""
        return _digest(f"{project_id} {email.strip().casefold()}")


def check_email(email: str) -> str:
    """Raises Invalid."""
    wrong = Invalid("emails: this is not an e-mail address such as anna@example.com")
    try:
        parsed = Address(addr_spec=email)
    except (HeaderParseError, ValueError, IndexError) as e:
        raise wrong from e
    if not parsed.username or "." not in parsed.domain or len(email) > 254 or not email.isprintable():
        raise wrong
    return email


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
