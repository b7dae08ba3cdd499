"""The shared tables: identity, tenancy, the registry of named things, workloads, lineage, outbox.

Times are epoch milliseconds. Account, project, user and group ids are 32 hexadecimal digits, as the vendor's;
everything else has a UUID with dashes (sdk_spec §1.6).
"""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.sealing import sealed
from bottega.urn import Urn, new_id

DEFAULT_WORKSPACE = "0"
"""The workspace every project always has (003 §9; sdk_spec §1.6)."""


def hex_id() -> str:
    return uuid.uuid4().hex


def _json() -> Any:
    return Field(default_factory=dict, sa_type=JSON)


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


class Account(SQLModel, table=True):
    """Who owns resources and pays (002 §10.1).

    `auth_mode` is ``strict`` (users need explicit rights) or ``loose`` (what no statement decides of ``modelarts:*``
    is allowed, 003 §9). `standing` is ``normal`` or ``arrears`` (000 §7, table 7-2: nothing that costs may begin).
    `security` holds what differs from the defaults of its login, password, protection and address policies.
    """

    __tablename__ = "core_account"
    id: str = Field(default_factory=hex_id, primary_key=True)
    name: str = Field(unique=True)
    auth_mode: str = "strict"
    standing: str = "normal"
    security: dict[str, Any] = _json()
    created_at: int = _time(default_factory=now_ms)


class Project(SQLModel, table=True):
    """Isolates the resources of an account (002 §10.1)."""

    __tablename__ = "core_project"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: str = Field(default_factory=hex_id, primary_key=True)
    account_id: str = Field(foreign_key="core_account.id", index=True)
    name: str
    parent_id: str | None = None
    description: str = ""
    enabled: bool = True
    created_at: int = _time(default_factory=now_ms)


class User(SQLModel, table=True):
    """Who acts; never owns or pays. `is_account_root` marks the account's own login, which may do everything.

    `email` and `phone` are encrypted at rest (003 §10.4). `must_change_password` lasts until the next own change.
    """

    __tablename__ = "core_user"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: str = Field(default_factory=hex_id, primary_key=True)
    account_id: str = Field(foreign_key="core_account.id", index=True)
    name: str
    description: str = ""
    email: bytes | None = sealed(nullable=True)
    phone: bytes | None = sealed(nullable=True)
    password_hash: str | None = None
    password_changed_at: int | None = _time(default=None)
    must_change_password: bool = False
    access_mode: str = "default"
    last_login_at: int | None = _time(default=None)
    is_account_root: bool = False
    enabled: bool = True
    tokens_valid_from: int = _time(default=0)
    created_at: int = _time(default_factory=now_ms)


class Group(SQLModel, table=True):
    """Rights reach users only through groups (002 §10.1)."""

    __tablename__ = "core_group"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: str = Field(default_factory=hex_id, primary_key=True)
    account_id: str = Field(foreign_key="core_account.id", index=True)
    name: str
    description: str = ""
    created_at: int = _time(default_factory=now_ms)


class GroupMember(SQLModel, table=True):
    __tablename__ = "core_group_member"
    group_id: str = Field(foreign_key="core_group.id", primary_key=True)
    user_id: str = Field(foreign_key="core_user.id", primary_key=True, index=True)


class Credential(SQLModel, table=True):
    """An access key; the secret is encrypted at rest because verifying a signature needs its text."""

    __tablename__ = "core_credential"
    access_key: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="core_user.id", index=True)
    secret: bytes = sealed("credential:{access_key}")
    description: str = ""
    enabled: bool = True
    expires_at: int | None = _time(default=None)
    created_at: int = _time(default_factory=now_ms)


class Policy(SQLModel, table=True):
    """A policy document; `account_id` is None for the read-only system policies (002 §10.2-10.3)."""

    __tablename__ = "core_policy"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: str = Field(default_factory=hex_id, primary_key=True)
    account_id: str | None = Field(default=None, foreign_key="core_account.id", index=True)
    name: str
    description: str = ""
    document: dict[str, Any] = _json()
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class PolicyGrant(SQLModel, table=True):
    """A policy attached to exactly one of a group, an agency and (in an enterprise project only) a user.

    `scope` is ``domain`` or ``all_projects`` (both: everywhere in the account), ``project`` (`project_id`) or
    ``enterprise_project`` (`enterprise_project_id`: the workspaces bound to it).
    """

    __tablename__ = "core_policy_grant"
    id: str = Field(default_factory=hex_id, primary_key=True)
    policy_id: str = Field(foreign_key="core_policy.id", index=True)
    group_id: str | None = Field(default=None, foreign_key="core_group.id", index=True)
    agency_id: str | None = Field(default=None, foreign_key="core_agency.id", index=True)
    user_id: str | None = Field(default=None, foreign_key="core_user.id", index=True)
    scope: str = "all_projects"
    project_id: str | None = Field(default=None, foreign_key="core_project.id")
    enterprise_project_id: str | None = None


class EnterpriseProject(SQLModel, table=True):
    """Groups workspaces for grants and bills; id ``0`` is the default one of every account and needs no row."""

    __tablename__ = "core_enterprise_project"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    account_id: str = Field(foreign_key="core_account.id", index=True)
    name: str
    description: str = ""
    enabled: bool = True
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class Agency(SQLModel, table=True):
    """Rights an account hands to another account, or to the platform itself (`trusted_account_id` None; 003 §9)."""

    __tablename__ = "core_agency"
    __table_args__ = (UniqueConstraint("account_id", "name"),)
    id: str = Field(default_factory=hex_id, primary_key=True)
    account_id: str = Field(foreign_key="core_account.id", index=True)
    name: str
    description: str = ""
    trusted_account_id: str | None = Field(default=None, foreign_key="core_account.id")
    expires_at: int | None = _time(default=None)
    created_at: int = _time(default_factory=now_ms)


class Authorization(SQLModel, table=True):
    """The agency by which the platform acts for a user (`user_id`; ``all-users``: for all without one of their own)."""

    __tablename__ = "core_authorization"
    account_id: str = Field(foreign_key="core_account.id", primary_key=True)
    user_id: str = Field(primary_key=True)
    agency_id: str = Field(foreign_key="core_agency.id", index=True)
    created_at: int = _time(default_factory=now_ms)


class RevokedToken(SQLModel, table=True):
    """A token that ended before its time; the row may go when it would have expired anyway."""

    __tablename__ = "core_revoked_token"
    token_id: str = Field(primary_key=True)
    expires_at: int = _time(index=True)


class Workspace(SQLModel, table=True):
    """A room inside a project; id ``0`` is the default one and needs no row.

    `auth_type` is ``PUBLIC`` (all of the account), ``PRIVATE`` (its creator and the account) or ``INTERNAL`` (those
    two and the users listed in `WorkspaceUser`); sdk_spec §3.6.
    """

    __tablename__ = "core_workspace"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: str = Field(default_factory=hex_id, primary_key=True)
    project_id: str = Field(foreign_key="core_project.id", index=True)
    name: str
    description: str = ""
    owner_id: str = ""
    auth_type: str = "PUBLIC"
    enterprise_project_id: str = "0"
    status: str = "NORMAL"
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class WorkspaceUser(SQLModel, table=True):
    """A user that may enter an INTERNAL workspace."""

    __tablename__ = "core_workspace_user"
    workspace_id: str = Field(foreign_key="core_workspace.id", primary_key=True)
    user_id: str = Field(foreign_key="core_user.id", primary_key=True, index=True)


class WorkspaceQuota(SQLModel, table=True):
    """How many resources of one kind a workspace may hold, beside the account's own limit."""

    __tablename__ = "core_workspace_quota"
    workspace_id: str = Field(foreign_key="core_workspace.id", primary_key=True)
    plugin: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    maximum: int
    updated_at: int = _time(default_factory=now_ms)


class Bucket(SQLModel, table=True):
    """Which account a bucket of the object store belongs to; one without a row is the platform account's."""

    __tablename__ = "core_bucket"
    name: str = Field(primary_key=True)
    account_id: str = Field(foreign_key="core_account.id", index=True)
    created_at: int = _time(default_factory=now_ms)


class Resource(SQLModel, table=True):
    """The one registry of every named thing of every plugin.

    `claimed_name` equals `name` while the thing exists and must be unique, so the database itself refuses a second
    one of the same name; it is NULL for kinds without unique names and after deletion. A deleted row stays
    (`deleted_at`), so lineage, audit and bills can still name it. `tags` are its users'; `properties` are what its
    plugin tells other plugins about it.
    """

    __tablename__ = "core_resource"
    __table_args__ = (
        UniqueConstraint("project_id", "plugin", "kind", "claimed_name"),
        Index("ix_core_resource_list", "project_id", "plugin", "kind", "deleted_at", "created_at"),
    )
    id: str = Field(default_factory=new_id, primary_key=True)
    plugin: str
    kind: str
    project_id: str = Field(foreign_key="core_project.id")
    workspace_id: str = DEFAULT_WORKSPACE
    owner_id: str
    name: str
    claimed_name: str | None = None
    description: str = ""
    status: str = ""
    tags: dict[str, Any] = _json()
    properties: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}")
    )
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)
    deleted_at: int | None = _time(default=None)

    @property
    def urn(self) -> str:
        return str(Urn(self.plugin, self.project_id, self.kind, self.id))


class QuotaLimit(SQLModel, table=True):
    """An administrator's own limit for one kind of resource of an account; without a row the plugin's default holds."""

    __tablename__ = "core_quota_limit"
    account_id: str = Field(foreign_key="core_account.id", primary_key=True)
    plugin: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    maximum: int


class UserQuota(SQLModel, table=True):
    """How many resources of one kind a user may have, beside the account's own limit (sdk_spec, training-quotas)."""

    __tablename__ = "core_user_quota"
    user_id: str = Field(foreign_key="core_user.id", primary_key=True)
    plugin: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    maximum: int


class Workload(SQLModel, table=True):
    """A unit of execution: what a backend starts, watches, stops and adopts again after a restart.

    States: ``requested`` → ``started`` → ``succeeded`` | ``failed`` | ``stopped``; `stop_requested_at` is set in
    either of the first two. `endpoints` maps the names of the spec's ports to ``host:port`` once started.
    `handle` belongs to the backend (for example process id and start time).
    """

    __tablename__ = "core_workload"
    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str = Field(foreign_key="core_project.id", index=True)
    workspace_id: str = DEFAULT_WORKSPACE
    user_id: str
    kind: str
    resource_urn: str = Field(index=True)
    backend: str = Field(index=True)
    flavor: str
    node_count: int = 1
    spec: dict[str, Any] = _json()
    state: str = Field(default="requested", index=True)
    reason: str = ""
    exit_code: int | None = None
    endpoints: dict[str, Any] = _json()
    handle: dict[str, Any] = _json()
    requested_at: int = _time(default_factory=now_ms)
    started_at: int | None = _time(default=None)
    stop_requested_at: int | None = _time(default=None)
    finished_at: int | None = _time(default=None)


class LineageEdge(SQLModel, table=True):
    """`target` was made from (or runs) `source`; both are URNs or ``s3://`` paths."""

    __tablename__ = "core_lineage_edge"
    source: str = Field(primary_key=True)
    target: str = Field(primary_key=True, index=True)
    relation: str = Field(primary_key=True)
    created_at: int = _time(default_factory=now_ms)


class Outbox(SQLModel, table=True):
    """Events committed with their state change and not yet acknowledged by JetStream; the relay empties it."""

    __tablename__ = "core_outbox"
    seq: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    )
    event_id: str = Field(unique=True)
    subject: str
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class ProcessedEvent(SQLModel, table=True):
    """An event whose effects a consumer has committed; written in the same transaction as the effects."""

    __tablename__ = "core_processed_event"
    consumer: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    processed_at: int = _time(default_factory=now_ms, index=True)
