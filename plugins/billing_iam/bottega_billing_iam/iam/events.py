"""What the plugin `iam` publishes: every change of identity, so that caches of rights are forgotten at its commit."""

from __future__ import annotations

from bottega.events import Event


class AccountCreated(Event, type="iam.account.created.v1"):
    account_id: str
    name: str


class SecurityChanged(Event, type="iam.security.changed.v1"):
    """A rule of the account changed; `policy`: ``password``, ``login``, ``protect``, ``api_acl`` or ``console_acl``."""

    account_id: str
    policy: str


class UserCreated(Event, type="iam.user.created.v1"):
    account_id: str
    user_id: str
    name: str


class UserChanged(Event, type="iam.user.changed.v1"):
    """Name, password or being enabled changed; `changed` names which."""

    account_id: str
    user_id: str
    changed: list[str]


class UserDeleted(Event, type="iam.user.deleted.v1"):
    account_id: str
    user_id: str
    name: str


class GroupCreated(Event, type="iam.group.created.v1"):
    account_id: str
    group_id: str
    name: str


class GroupChanged(Event, type="iam.group.changed.v1"):
    account_id: str
    group_id: str
    name: str


class GroupDeleted(Event, type="iam.group.deleted.v1"):
    account_id: str
    group_id: str
    name: str


class MemberAdded(Event, type="iam.member.added.v1"):
    account_id: str
    group_id: str
    user_id: str


class MemberRemoved(Event, type="iam.member.removed.v1"):
    account_id: str
    group_id: str
    user_id: str


class CredentialCreated(Event, type="iam.credential.created.v1"):
    account_id: str
    user_id: str
    access_key: str


class CredentialChanged(Event, type="iam.credential.changed.v1"):
    account_id: str
    user_id: str
    access_key: str
    enabled: bool


class CredentialDeleted(Event, type="iam.credential.deleted.v1"):
    account_id: str
    user_id: str
    access_key: str


class PolicyChanged(Event, type="iam.policy.changed.v1"):
    """`change` is ``created``, ``updated`` or ``deleted``; `account_id` is None for a system policy."""

    account_id: str | None
    policy_id: str
    name: str
    change: str


class PolicyGranted(Event, type="iam.policy.granted.v1"):
    """Exactly one of `group_id`, `agency_id`, `user_id` is set; the scope and its place are as in the core's grants."""

    account_id: str
    policy_id: str
    group_id: str | None = None
    agency_id: str | None = None
    user_id: str | None = None
    scope: str
    project_id: str | None
    enterprise_project_id: str | None


class PolicyRevoked(Event, type="iam.policy.revoked.v1"):
    """As `PolicyGranted`."""

    account_id: str
    policy_id: str
    group_id: str | None = None
    agency_id: str | None = None
    user_id: str | None = None
    scope: str
    project_id: str | None
    enterprise_project_id: str | None


class AgencyChanged(Event, type="iam.agency.changed.v1"):
    """`change` is ``created``, ``updated`` or ``deleted``."""

    account_id: str
    agency_id: str
    name: str
    change: str


class EnterpriseProjectChanged(Event, type="iam.enterprise_project.changed.v1"):
    """`change` is ``created`` or ``updated``; a disabled one keeps what is bound to it."""

    account_id: str
    enterprise_project_id: str
    name: str
    enabled: bool
    change: str


class ProjectCreated(Event, type="iam.project.created.v1"):
    account_id: str
    project_id: str
    name: str


class ProjectChanged(Event, type="iam.project.changed.v1"):
    account_id: str
    project_id: str
    name: str
    enabled: bool


class ProjectDeleted(Event, type="iam.project.deleted.v1"):
    account_id: str
    project_id: str
    name: str


class AuthorizationChanged(Event, type="iam.authorization.changed.v1"):
    """The platform acts by another agency for a user (``all-users``: for all without one); without one by none."""

    account_id: str
    user_id: str
    agency_id: str | None


class AuthModeChanged(Event, type="iam.auth_mode.changed.v1"):
    """`mode` is ``strict`` or ``loose``."""

    account_id: str
    mode: str


class WorkspaceCreated(Event, type="iam.workspace.created.v1"):
    project_id: str
    workspace_id: str
    name: str


class WorkspaceChanged(Event, type="iam.workspace.changed.v1"):
    project_id: str
    workspace_id: str
    name: str


class WorkspaceDeleted(Event, type="iam.workspace.deleted.v1"):
    project_id: str
    workspace_id: str
    name: str


EVENTS: tuple[type[Event], ...] = (
    AccountCreated,
    SecurityChanged,
    UserCreated,
    UserChanged,
    UserDeleted,
    GroupCreated,
    GroupChanged,
    GroupDeleted,
    MemberAdded,
    MemberRemoved,
    CredentialCreated,
    CredentialChanged,
    CredentialDeleted,
    PolicyChanged,
    PolicyGranted,
    PolicyRevoked,
    AgencyChanged,
    EnterpriseProjectChanged,
    ProjectCreated,
    ProjectChanged,
    ProjectDeleted,
    AuthorizationChanged,
    AuthModeChanged,
    WorkspaceCreated,
    WorkspaceChanged,
    WorkspaceDeleted,
)
