"""Two checks of the administration that a route's action alone does not say."""

from __future__ import annotations

from bottega.errors import Forbidden
from bottega.gateway import Caller

from .identities import iam_urn


def account_wide(caller: Caller) -> str:
    """The caller's account. Raises Forbidden for credentials limited to a project or by a session policy.

    What they could change here would outlive and exceed their limits.
    """
    if caller.principal.scope is not None or caller.principal.session_policy is not None:
        raise Forbidden("this credential is limited to a project or a workload; use one of the whole account")
    return caller.principal.account_id


async def own_or_allowed(caller: Caller, user_id: str, action: str, kind: str, id: str) -> None:
    """Raises Forbidden unless it is about the caller itself and nothing denies it, or its policies allow `action`."""
    decision = await caller.decide(action, iam_urn(kind, id))
    if decision.allowed or (caller.user_id == user_id and decision.reason != "explicit deny"):
        return
    raise Forbidden(f"{action} on {iam_urn(kind, id)}: {decision.explain()}")
