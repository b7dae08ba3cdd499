"""The read-only policies every installation offers (003 §9 table 9-1, 000 §8 tables 8-1 and 8-2, 002 §10.2).

System policies hold Allow statements only (002 §10.4), so "all but dedicated pools" is written as the list of
everything else. That list follows the actions which the installed plugins declare.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bottega.plugins import SystemPolicy

SECURITY = "Security Administrator"
TENANT = "Tenant Administrator"
AGENCY = "ModelArts Agency"
ADMIN_GROUP_POLICIES = (SECURITY, TENANT)

_KINDS = frozenset(
    {
        "aihub",
        "algorithm",
        "autosearch",
        "config",
        "conversion",
        "dataset",
        "devserver",
        "exemlProject",
        "exemlProjectVersion",
        "exmlProject",
        "experiment",
        "image",
        "job",
        "label",
        "model",
        "network",
        "notebook",
        "notebookApp",
        "order",
        "processor",
        "service",
        "tensorboard",
        "trainConfig",
        "trainJob",
        "trainJobVersion",
        "workflow",
        "workforce",
        "workspace",
    }
)
_POOLS = frozenset({"cluster", "pool", "nodePool", "poolNode"})
_SERVICES = frozenset({"bottega", "bss", "cts", "modelarts", "obs", "smn", "swr"})

_DEPENDENCIES = (
    "obs:bucket:ListAllMyBuckets",
    "obs:bucket:CreateBucket",
    "obs:bucket:HeadBucket",
    "obs:bucket:ListBucket",
    "obs:bucket:ListBucketVersions",
    "obs:bucket:GetBucketLocation",
    "obs:object:GetObject",
    "obs:object:GetObjectVersion",
    "obs:object:PutObject",
    "obs:object:DeleteObject",
    "smn:topic:list",
    "smn:topic:publish",
    "swr:repository:list",
    "swr:repository:download",
    "swr:repository:upload",
)

_AGENCY_ACTIONS = (
    "obs:bucket:HeadBucket",
    "obs:bucket:ListBucket",
    "obs:bucket:GetBucketLocation",
    "obs:object:GetObject",
    "obs:object:GetObjectVersion",
    "obs:object:PutObject",
    "smn:topic:publish",
)
"""The least the platform needs: it deletes nothing, makes no buckets, and touches nothing that the user may not."""

_LOOKING = (
    "iam:*:get*",
    "iam:*:list*",
    "iam:permissions:checkUserInGroup",
    "iam:permissions:explain",
    "bottega:permission:check",
    "eps:enterpriseProjects:get",
    "eps:enterpriseProjects:list",
)


def system_policies(declared_actions: Iterable[str]) -> list[SystemPolicy]:
    """The ready-made policies, for an installation whose plugins declare `declared_actions`."""
    parts = [action.split(":") for action in declared_actions]
    kinds = _KINDS | {kind for service, kind, _ in parts if service == "modelarts"}
    services = sorted(_SERVICES | {service for service, _, _ in parts} - {"iam"})
    common = [f"modelarts:{kind}:*" for kind in sorted(kinds - _POOLS)]
    common += [f"modelarts:{kind}:{verb}*" for kind in sorted(_POOLS) for verb in ("get", "list")]
    return [
        _allow("ModelArts FullAccess", "Administrator permissions for ModelArts.", ["modelarts:*:*"]),
        _allow("ModelArts CommonOperations", "All of ModelArts but managing dedicated resource pools.", common),
        _allow("ModelArts Dependency Access", "Permissions on dependent services for ModelArts.", _DEPENDENCIES),
        _allow(AGENCY, "What the platform needs to work for users by an agency.", _AGENCY_ACTIONS),
        _allow("ModelArts Admin", "Administrator of ModelArts (older name of FullAccess).", ["modelarts:*:*"]),
        _allow("ModelArts User", "User of ModelArts (older name of CommonOperations).", common),
        _allow("ModelArts Viewer", "Looks at everything of ModelArts.", ["modelarts:*:get*", "modelarts:*:list*"]),
        _allow("Agent Operator", "Acts for accounts that trust this one, by their agencies.", ["iam:agencies:assume"]),
        _allow(SECURITY, "Manages users, groups, policies, projects and access keys.", ["iam:*:*"]),
        _allow("IAM ReadOnlyAccess", "Looks at identities and permissions, and asks why.", _LOOKING),
        _allow(TENANT, "Everything but identity and permissions.", [f"{s}:*:*" for s in services], "1.0"),
        _allow(
            "Tenant Guest",
            "Looks at everything but identity and permissions.",
            [f"{s}:*:{verb}*" for s in services for verb in ("get", "list", "head", "view")],
            "1.0",
        ),
    ]


def _allow(name: str, description: str, actions: Iterable[str], version: str = "1.1") -> SystemPolicy:
    document: dict[str, Any] = {"Version": version, "Statement": [{"Effect": "Allow", "Action": list(actions)}]}
    return SystemPolicy(name, description, document)
