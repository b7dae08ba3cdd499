"""What a client sends to get a token: the four ways of the vendor's IAM v3, and Keystone's spellings of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from bottega.errors import NotSupported
from bottega.passwords import MAX_LENGTH


class Named(BaseModel):
    id: str | None = Field(None, max_length=64)
    name: str | None = Field(None, max_length=64)


class PasswordUser(Named):
    domain: Named | None = None
    password: str = Field(max_length=MAX_LENGTH)

    @model_validator(mode="after")
    def _identified(self) -> PasswordUser:
        if self.id is None and (self.name is None or self.domain is None or not (self.domain.id or self.domain.name)):
            raise ValueError("give the user's id, or its name and the name or id of its domain (the account)")
        return self


class Password(BaseModel):
    user: PasswordUser


class Token(BaseModel):
    id: str | None = Field(None, max_length=32768)


class AssumeRole(BaseModel):
    agency_name: str = Field(max_length=128)
    domain_id: str | None = Field(None, max_length=64)
    domain_name: str | None = Field(None, max_length=64)


class Identity(BaseModel):
    """One method, with what it needs under its name."""

    methods: list[Literal["password", "token", "assume_role", "totp"]] = Field(min_length=1, max_length=4)
    password: Password | None = None
    token: Token = Token()
    assume_role: AssumeRole | None = None

    @model_validator(mode="after")
    def _complete(self) -> Identity:
        if "totp" in self.methods:
            raise NotSupported("methods: totp needs a second factor (MFA), which this platform does not offer")
        if len(self.methods) > 1:
            raise ValueError("methods: give one of password, token, assume_role")
        if self.method != "token" and getattr(self, self.method) is None:
            raise ValueError(f"methods says {self.method}; give {self.method} beside it")
        return self

    @property
    def method(self) -> str:
        return self.methods[0]


class ProjectScope(Named):
    domain: Named | None = None


class TokenScope(BaseModel):
    project: ProjectScope | None = None
    domain: Named | None = None


class Auth(BaseModel):
    identity: Identity
    scope: TokenScope | Literal["unscoped"] | None = None


class TokenRequest(BaseModel):
    """``KeystoneCreateUserTokenByPassword``, ``…AgencyToken`` and ``…ScopedToken`` of the vendor's IAM v3."""

    auth: Auth

    @property
    def project(self) -> Named:
        scope = self.auth.scope
        return scope.project if isinstance(scope, TokenScope) and scope.project else Named()

    @property
    def domain(self) -> Named:
        """The account that the scope names, for itself or for its project."""
        scope = self.auth.scope
        if not isinstance(scope, TokenScope):
            return Named()
        return scope.domain or (scope.project.domain if scope.project else None) or Named()
