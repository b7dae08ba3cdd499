"""What administration keeps beside the core's tables: failed logins, and hashes of passwords that were in use."""

from __future__ import annotations

import uuid

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.throttle import LoginFailureColumns


class LoginFailure(LoginFailureColumns, table=True):
    """A wrong password. `who` is a user id, or for a login that names nobody what it said."""

    __tablename__ = "iam_login_failure"
    __table_args__ = (Index("ix_iam_login_failure_who", "who", "at"),)


class PastPassword(SQLModel, table=True):
    """The argon2id hash of a password that a user had, for policies against using it again."""

    __tablename__ = "iam_past_password"
    id: str = Field(default_factory=lambda: uuid.uuid4().hex, primary_key=True)
    user_id: str = Field(index=True)
    password_hash: str
    at: int = Field(default_factory=now_ms, sa_type=BigInteger)
