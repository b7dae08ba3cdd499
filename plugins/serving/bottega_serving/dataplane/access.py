"""Who may call this service: tokens, signatures and policies, checked with what the platform published beforehand."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.types import Options

from bottega import signing
from bottega.errors import Forbidden, Unauthenticated
from bottega.iam import PolicySet, compile_policies, parse_policy
from bottega_serving.feed_keys import ACTION

_DECISION_S = 1.0
"""How long a decision is used again; after that it is made anew, for conditions on the time."""
_CACHE = 10_000


class InvalidToken(Unauthenticated):
    """The token is not valid."""

    code = "APIGW.0307"


@dataclass(frozen=True, slots=True)
class User:
    """A user who may be allowed to call."""

    id: str
    name: str
    account_id: str
    root: bool
    valid_from: int
    policies: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    """What a good token says. `made_with` is an access key; one for signing is itself a key, with `secret`."""

    user: User
    issued_at: float
    expires_at: float
    limit: PolicySet | None
    made_with: str | None
    signs_as: str
    secret: str


class Access:
    """The rules as of one publication; a new one replaces the whole object, and with it everything cached."""

    def __init__(self, route: Mapping[str, Any], callers: Mapping[str, Any]) -> None:
        self.urn: str = route["urn"]
        self._project_id: str = route["project_id"]
        self._project_name: str = route["project_name"]
        self._account_id: str = route["account_id"]
        self._public_keys: list[Any] = [load_pem_public_key(pem.encode()) for pem in callers["public_keys"]]
        self._temporary: list[bytes] = [bytes.fromhex(secret) for secret in callers["temporary"]]
        self._conditions: Mapping[str, Any] = callers["conditions"]
        self._revoked = frozenset(callers["revoked"])
        self._users = {
            id: User(id, u["name"], u["account_id"], u["root"], u["valid_from"], tuple(u["policies"]))
            for id, u in callers["users"].items()
        }
        self._keys: Mapping[str, Mapping[str, Any]] = callers["keys"]
        self._documents: list[Mapping[str, Any]] = callers["policies"]
        self._rights: dict[tuple[int, ...], PolicySet] = {}
        self._tokens: dict[tuple[str, str | None], _Token] = {}
        self._allowed: dict[tuple[str, str], float] = {}

    def check_token(self, token: str, source_ip: str) -> None:
        """Raises Unauthenticated for a token that is not valid, Forbidden for one that may not call."""
        if self._allowed.get((token, source_ip), 0.0) <= time.time():
            self._check(token, self._token(token), source_ip)

    def begin_signature(
        self, method: str, raw_path: bytes, query: bytes, headers: list[tuple[bytes, bytes]]
    ) -> Signature:
        """What can be checked of a signed request before its body is there. Raises Unauthenticated."""
        now = time.time()
        try:
            pending = signing.begin(method, raw_path, query, headers, now=now)
        except signing.SignatureError as problem:
            raise Unauthenticated(problem.message) from problem
        access_key = pending.request.access_key
        if pending.security_token:
            temporary = self._token(pending.security_token, signing.FOR_SIGNING)
            if access_key != temporary.signs_as:
                raise InvalidToken("X-Security-Token is not the one that was issued with this access key")
            return Signature(self, pending, temporary.secret, temporary)
        key = self._keys.get(access_key)
        if key is None:
            raise Unauthenticated(
                "the access key does not exist, is disabled, or belongs to nobody who may call this service; "
                "a temporary one needs its X-Security-Token"
            )
        if key["expires_at"] is not None and key["expires_at"] <= now * 1000:
            raise Unauthenticated("the access key has expired")
        return Signature(self, pending, key["secret"])

    def holder(self, token: str) -> tuple[str, str | None, str] | None:
        """The ids of user and account, and the user's name where known, that a refused token was issued to.

        None for a token that this platform never issued; one that has expired still says who uses it.
        """
        try:
            claims, _ = self._claims(token, None, {"verify_exp": False, "verify_aud": False, "require": ["sub"]})
        except jwt.InvalidTokenError:
            return None
        user = self._users.get(claims["sub"])
        return claims["sub"], user.name if user else None, claims.get("acc", self._account_id)

    def user_of_key(self, access_key: str) -> User | None:
        key = self._keys.get(access_key)
        return self._users.get(key["user_id"]) if key else None

    def check_signature(self, access_key: str, temporary: _Token | None, source_ip: str) -> None:
        """The rights behind an access key whose signature is right. Raises Forbidden."""
        if self._allowed.get((access_key, source_ip), 0.0) > time.time():
            return
        if temporary is not None:
            self._check(access_key, temporary, source_ip)
            return
        user = self.user_of_key(access_key)
        if user is None:
            raise Unauthenticated("the user of this access key is gone or disabled")
        self._decide(user, None, None, source_ip)
        self._remember(access_key, source_ip, float("inf"))

    def _check(self, credential: str, known: _Token, source_ip: str) -> None:
        self._decide(known.user, known.limit, known.issued_at, source_ip)
        # Of users who may not call no keys are known here, so this comes after it.
        if known.made_with is not None and known.made_with not in self._keys:
            raise InvalidToken("the access key that this token was made with is gone or disabled")
        self._remember(credential, source_ip, known.expires_at)

    def _remember(self, credential: str, source_ip: str, until: float) -> None:
        if len(self._allowed) >= _CACHE:
            self._allowed.clear()
        self._allowed[credential, source_ip] = min(until, time.time() + _DECISION_S)

    def _token(self, token: str, audience: str | None = None) -> _Token:
        known = self._tokens.get((token, audience))
        if known is not None and known.expires_at > time.time():
            return known
        try:
            claims, key = self._claims(token, audience, {"require": ["sub", "exp", "iat", "jti"]})
        except jwt.ExpiredSignatureError as problem:
            raise InvalidToken("the token has expired; get a new one") from problem
        except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError) as problem:
            wanted = "X-Security-Token beside a signature" if audience is None else "X-Auth-Token"
            raise InvalidToken(f"this token is for {wanted} and for nothing else") from problem
        except jwt.InvalidTokenError as problem:
            raise InvalidToken("the token is not one this platform issued") from problem
        user = self._users.get(claims["sub"])
        if user is None:
            raise Forbidden(f"{ACTION} on {self.urn}: its user is of another account, gone or disabled")
        made_with = {claims["jti"], *claims.get("par", ())}
        if round(claims["iat"] * 1000) < user.valid_from or not self._revoked.isdisjoint(made_with):
            raise InvalidToken("the token was revoked; get a new one")
        if "agy" in claims:
            raise Forbidden(f"{ACTION} on {self.urn}: an agency's credentials do not call services; use a user's own")
        if claims.get("prj", self._project_id) != self._project_id:
            raise Forbidden(f"this token is scoped to project '{claims['prj']}', not '{self._project_id}'")
        policy = claims.get("pol")
        known = _Token(
            user,
            claims["iat"],
            claims["exp"],
            compile_policies([(parse_policy(policy, "session"), "limits of this credential")]) if policy else None,
            claims.get("key"),
            signing.temporary_access_key(claims["jti"]),
            signing.temporary_secret(self._temporary[key], claims["jti"]),
        )
        if len(self._tokens) >= _CACHE:
            self._tokens.clear()
        self._tokens[token, audience] = known
        return known

    def _claims(self, token: str, audience: str | None, options: Options) -> tuple[dict[str, Any], int]:
        """What a token says, and which of the platform's keys signed it. Raises jwt.InvalidTokenError."""
        last = len(self._public_keys) - 1
        for number, key in enumerate(self._public_keys[:last]):
            with contextlib.suppress(jwt.InvalidSignatureError):
                return jwt.decode(token, key, ["EdDSA"], audience=audience, options=options), number
        return jwt.decode(token, self._public_keys[last], ["EdDSA"], audience=audience, options=options), last

    def _decide(self, user: User, limit: PolicySet | None, issued_at: float | None, source_ip: str) -> None:
        now = time.time()
        context = {
            **self._conditions,
            "g:CurrentTime": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "g:UserName": user.name,
            "g:UserId": user.id,
            "g:DomainId": user.account_id,
            "g:MFAPresent": "false",
            "g:SourceIp": source_ip,
            "g:ProjectId": self._project_id,
            "g:ProjectName": self._project_name,
        }
        if issued_at is not None:
            context["g:TokenAge"] = int(now - issued_at)
        if user.account_id != self._account_id:
            raise Forbidden(f"{ACTION} on {self.urn}: the service belongs to another account")
        sets = [limit] if limit else []
        if not user.root:
            sets.append(self._rights_of(user))
        for policies in sets:
            decision = policies.decide(ACTION, self.urn, context)
            if not decision.allowed:
                raise Forbidden(f"{ACTION} on {self.urn}: {decision.explain()}")

    def _rights_of(self, user: User) -> PolicySet:
        found = self._rights.get(user.policies)
        if found is None:
            chosen = [self._documents[i] for i in user.policies]
            found = compile_policies((parse_policy(p["document"], p["name"]), p["source"]) for p in chosen)
            self._rights[user.policies] = found
        return found


class Signature:
    """A signed request whose headers are in order."""

    def __init__(
        self, access: Access, pending: signing.PendingSignature, secret: str, temporary: _Token | None = None
    ) -> None:
        self._access = access
        self._pending = pending
        self._secret = secret
        self._temporary = temporary

    def finish(self, body: bytes, source_ip: str) -> None:
        """Raises Unauthenticated when it does not match, Forbidden when its user may not call."""
        try:
            self._pending.finish(body, self._secret)
        except signing.SignatureError as problem:
            raise Unauthenticated(problem.message) from problem
        self._access.check_signature(self._pending.request.access_key, self._temporary, source_ip)
