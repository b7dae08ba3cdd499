"""Identities on NATS: an operator, one account, and users whose credentials are signed offline.

NATS calls this decentralised JWT authentication: the server knows the operator and the account, and accepts
any user whose claims the account's key has signed. So a short-lived identity that may touch its own subjects
only is issued here, without asking the server or reloading it. An expired one is disconnected by the server.

Nobody holds a key to the system account: its seed is thrown away when it is made.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import nkeys

from bottega.errors import ConfigError, Invalid
from bottega.private_files import private_directory, write_private

EVENTS_STREAM = "EVENTS"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_UNLIMITED_ACCOUNT = {
    **dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1),
    **dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1),
    "wildcards": True,
}


@dataclass(frozen=True)
class Permissions:
    """What a user may do. A client must connect with `inbox_prefix`, or it hears no replies."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    inbox_prefix: str


def project_subscriber_permissions(
    project_id: str,
    name: str,
    *,
    events: Sequence[str] | None = None,
    logs: bool = True,
    consumer: bool = False,
    stream: str = EVENTS_STREAM,
) -> Permissions:
    """Subscribe to what one project says, live: `events` (subjects, default `evt.<project>.>`) and `log.<project>.>`.

    With `consumer`, also create, read, acknowledge and delete one JetStream consumer of its own, so that
    nothing is missed while away: it must be called `consumer_name(project_id, name, subject)` and be filtered on
    exactly that one subject. The filter is part of the subject that creates it and the server compares it
    with the request, so a consumer of other events cannot be made. A consumer with several filters has none of
    them in that subject and cannot be confined, so there is none for more than one subject. What the server does
    not check is where a consumer delivers *to*: a holder can have its own project's past events repeated on a
    foreign subject, so readers of `cmd.>` and `evt.>` believe the envelope's project only where it equals the
    subject's.

    Raises Invalid when `project_id` or `name` is not a single subject token, or `consumer` is asked for several
    subjects.
    """
    inbox = inbox_prefix(project_id, name)
    subjects = tuple(events) if events is not None else (f"evt.{project_id}.>",)
    subscribe = (*subjects, *((f"log.{project_id}.>",) if logs else ()), f"{inbox}.>")
    if not consumer:
        return Permissions((), subscribe, inbox)
    if len(subjects) != 1:
        raise Invalid("a consumer that is confined has exactly one subject")
    own = f"{stream}.{consumer_name(project_id, name, subjects[0])}"
    publish = (
        f"$JS.API.CONSUMER.CREATE.{own}.{subjects[0]}",
        f"$JS.API.CONSUMER.INFO.{own}",
        f"$JS.API.CONSUMER.MSG.NEXT.{own}",
        f"$JS.API.CONSUMER.DELETE.{own}",
        f"$JS.ACK.{own}.>",
    )
    return Permissions(publish, subscribe, inbox)


def kv_reader_permissions(bucket: str, name: str) -> Permissions:
    """Get and watch every key of one KV bucket; change nothing."""
    inbox = inbox_prefix("kv", name)
    stream = f"KV_{_token(bucket)}"
    publish = (
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.*",
        f"$JS.API.CONSUMER.DELETE.{stream}.*",
        f"$JS.FC.{stream}.>",
    )
    return Permissions(publish, (f"{inbox}.>",), inbox)


def inbox_prefix(scope: str, name: str) -> str:
    """Where replies to this identity go; nobody else may listen there."""
    return f"_INBOX.{_token(scope)}.{_token(name)}"


def consumer_name(project_id: str, name: str, subject: str | None = None) -> str:
    """The name of the one consumer a project subscriber may have; unique among all projects, names and subjects.

    The subject is part of it, so that credentials with fewer rights do not reach what an earlier consumer holds.
    """
    whole = subject is None or subject == f"evt.{project_id}.>"
    narrowed = "" if whole else f"-{hashlib.sha256(str(subject).encode()).hexdigest()[:12]}"
    return f"{_token(name)}{narrowed}@{_token(project_id)}"


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise Invalid(f"'{text}' cannot be part of a NATS subject; use 1 to 128 letters, digits, '_' or '-'")
    return text


@dataclass(frozen=True)
class NatsAuthority:
    """The keys that make identities. Whoever holds them can become anyone on the bus."""

    operator_seed: str = field(repr=False)
    account_seed: str = field(repr=False)
    system_account: str
    """The public key of the system account."""

    @classmethod
    def create(cls) -> NatsAuthority:
        return cls(
            operator_seed=_new_seed(nkeys.PREFIX_BYTE_OPERATOR),
            account_seed=_new_seed(nkeys.PREFIX_BYTE_ACCOUNT),
            system_account=_public(_new_seed(nkeys.PREFIX_BYTE_ACCOUNT)),
        )

    @classmethod
    def load_or_create(cls, directory: Path) -> NatsAuthority:
        """Read `directory/nats-authority.json` (mode 0600), or write a new one.

        Raises ConfigError when the file is there but is not one of ours; it is then left as it is.
        """
        path = directory / "nats-authority.json"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            private_directory(directory)
            authority = cls.create()
            write_private(path, json.dumps(asdict(authority), indent=2) + "\n")
            return authority
        path.chmod(0o600)
        try:
            stored = json.loads(text)
            authority = cls(**{part.name: stored[part.name] for part in fields(cls)})
            _public(authority.operator_seed), _public(authority.account_seed)
        except (ValueError, TypeError, KeyError, nkeys.NkeysError) as problem:
            raise ConfigError(
                f"{path} does not hold the NATS keys of this installation ({type(problem).__name__}); "
                "restore it from a backup, or remove it to make new keys (all issued credentials then end)"
            ) from problem
        return authority

    @property
    def account(self) -> str:
        """The public key of the account that everything of the platform lives in."""
        return _public(self.account_seed)

    def server_config(self) -> str:
        """The part of a nats-server configuration that makes it accept this authority's users and nobody
        else.

        It holds public keys and signed claims, no secret.
        """
        operator = _public(self.operator_seed)
        claims = {"type": "operator", "version": 2, "system_account": self.system_account}
        operator_jwt = _sign(self.operator_seed, operator, "bottega", claims)
        preload = {
            account: _sign(self.operator_seed, account, name, {"type": "account", "version": 2, "limits": limits})
            for account, name, limits in (
                (self.account, "platform", _UNLIMITED_ACCOUNT),
                (self.system_account, "system", {**_UNLIMITED_ACCOUNT, "mem_storage": 0, "disk_storage": 0}),
            )
        }
        return "\n".join(
            (
                f"operator: {operator_jwt}",
                f"system_account: {self.system_account}",
                "resolver: MEMORY",
                "resolver_preload: {",
                *(f"  {account}: {token}" for account, token in preload.items()),
                "}",
                "",
            )
        )

    def issue_user(
        self,
        name: str,
        *,
        publish: Sequence[str],
        subscribe: Sequence[str],
        expires_in_s: float | None,
    ) -> str:
        """Make an identity and return the text of its `.creds` file, which nats-py takes as `RawCredentials`.

        `publish` and `subscribe` are subjects, wildcards allowed; an empty list means nothing (the claims'
        own format would take it for everything). The server ends the connection within a second of
        `expires_in_s` from now and opens no lasting one afterwards; None never ends. The text holds the user's
        secret key, which is kept nowhere else.
        """
        if expires_in_s is not None and expires_in_s < 1:
            raise ValueError("expires_in_s counts whole seconds: at least 1, or None")
        seed = _new_seed(nkeys.PREFIX_BYTE_USER)
        claims = {
            "type": "user",
            "version": 2,
            "pub": _only(publish),
            "sub": _only(subscribe),
            **dict.fromkeys(("subs", "data", "payload"), -1),
        }
        expires = None if expires_in_s is None else int(time.time() + expires_in_s)
        token = _sign(self.account_seed, _public(seed), name, claims, expires)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )


def _only(subjects: Sequence[str]) -> dict[str, list[str]]:
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def _new_seed(prefix: int) -> str:
    return bytes(nkeys.encode_seed(os.urandom(32), prefix)).decode()


def _public(seed: str) -> str:
    return bytes(nkeys.from_seed(seed.encode()).public_key).decode()


def _sign(issuer_seed: str, subject: str, name: str, nats: Mapping[str, object], expires: int | None = None) -> str:
    """A NATS JWT: https://github.com/nats-io/jwt, claims version 2, signed with an nkey (Ed25519)."""
    issuer = nkeys.from_seed(issuer_seed.encode())
    claims: dict[str, object] = {
        "iat": int(time.time()),
        "iss": bytes(issuer.public_key).decode(),
        "sub": subject,
        "name": name,
        "nats": nats,
    }
    if expires is not None:
        claims["exp"] = expires
    digest = hashlib.sha256(json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(claims)}"
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


def _part(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
