"""Two checks of the administration that a route's action alone does not say."""

from __future__ import annotations

from bottega.errors import Forbidden
from bottega.gateway import Caller

from .identities import iam_urn
from .security import ProtectPolicy, policy_of


def account_wide(caller: Caller) -> str:
    """The caller's account. Raises Forbidden for credentials limited to a project or by a session policy.

    What they could change here would outlive and exceed their limits.
    """
    if caller.principal.scope is not None or caller.principal.session_policy is not None:
        raise Forbidden("this credential is limited to a project or a workload; use one of the whole account")
    return caller.principal.account_id


def within_limits(caller: Caller, action: str, id: str) -> None:
    """Raises Forbidden when the session policy of the credential, if it has one, leaves out `action` on a user."""
    policy = caller.principal.session_policy
    if policy is None:
        return
    decision = caller.platform.identity.rights.session_policy(policy).decide(action, iam_urn("user", id), {})
    if not decision.allowed:
        raise Forbidden(f"{action} on {iam_urn('user', id)}: {decision.explain()}")


async def own_or_allowed(
    caller: Caller, user_id: str, action: str, kind: str, id: str, managing: str | None = None
) -> None:
    """Raises Forbidden unless it is about the caller itself and nothing denies it, or its policies allow `action`.

    :param managing: the field of `SelfManagement` by which an account can keep this from its users.
    """
    decision = await caller.decide(action, iam_urn(kind, id))
    if decision.allowed:
        return
    if caller.user_id == user_id and decision.reason != "explicit deny":
        account = await caller.platform.identity.account(caller.principal.account_id)
        if managing is None or getattr(policy_of(account, ProtectPolicy).allow_user, managing):
            return
        raise Forbidden(f"{action}: the account does not let its users do this themselves ({managing} is false)")
    raise Forbidden(f"{action} on {iam_urn(kind, id)}: {decision.explain()}")


def in_own(caller: Caller, domain_id: str | None) -> str:
    """The caller's account. Raises Forbidden when a request names another one, or the credential is a limited one."""
    account_id = account_wide(caller)
    if domain_id not in (None, account_id):
        raise Forbidden(f"domain_id: account '{domain_id}' is not yours")
    return account_id


def about_own(caller: Caller, domain_id: str | None) -> str:
    """The caller's account. Raises Forbidden when a request asks about another one."""
    account_id = caller.principal.account_id
    if domain_id not in (None, account_id):
        raise Forbidden(f"account '{domain_id}' is not yours")
    return account_id
