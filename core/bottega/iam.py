"""Permissions: parse policies, compile the ones a caller has, and decide with a reason. Pure, no I/O.

Policies are written as the guide shows (seed 002 §10.3-10.5): fine-grained ones (``Version`` 1.1) and
role-based ones (``Version`` 1.0, which may depend on others). A decision is an explicit ``Deny`` if any
applies, else an explicit ``Allow`` if any applies, else a denial because no statement allows it.

    caller = compile_policies([(parse_policy(text, "no-delete"), "group interns")])
    decision = caller.decide("modelarts:notebook:delete", "notebook:1", {"g:UserName": "alice"})
    decision.allowed, decision.explain()
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bottega.iam_conditions import Context
from bottega.iam_statements import Dependency, Effect, PolicyDocument, Statement
from bottega.iam_syntax import InvalidPolicy, Problem, check_policy, parse_policy

__all__ = [
    "Attached",
    "Decision",
    "Dependency",
    "Examined",
    "InvalidPolicy",
    "PolicyDocument",
    "PolicySet",
    "Problem",
    "Reason",
    "Statement",
    "check_policy",
    "compile_policies",
    "parse_policy",
]

Reason = Literal["explicit deny", "explicit allow", "no statement allows it", "loose authorization"]
_MEMO_LIMIT = 1024
_NOTHING_KNOWN: Context = {}


class Attached(NamedTuple):
    """A policy as it reaches a caller: from where, such as "group interns", and where it counts."""

    document: PolicyDocument
    source: str
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question, and what decided it.

    ``policy``, ``statement`` (its index), ``source`` (where the policy came from, such as "group interns"),
    ``pattern`` (the action as the statement writes it) and ``scope`` (where the policy counts) are None when no
    statement applies. ``notes`` name policies that would have allowed the action but are without effect.
    """

    allowed: bool
    reason: Reason
    action: str
    policy: str | None = None
    statement: int | None = None
    source: str | None = None
    pattern: str | None = None
    notes: tuple[str, ...] = ()
    scope: str | None = None

    def explain(self) -> str:
        """The decision in one sentence."""
        if self.reason == "loose authorization":
            return f"allowed because the account's authorization is loose and no statement denies {self.action}"
        if self.policy is None:
            return "; ".join((f"denied because no statement allows {self.action}", *self.notes))
        verb, effect = ("allowed", "Allow") if self.allowed else ("denied", "Deny")
        source = f" ({self.source})" if self.source else ""
        return f'{verb} by statement {self.statement} of policy "{self.policy}"{source}: {effect} {self.pattern}'


@dataclass(frozen=True, slots=True)
class Examined:
    """A statement about the action asked for: whether it applies, else what keeps it from applying."""

    attached: Attached
    statement: int
    effect: Effect
    pattern: str
    obstacle: str | None

    @property
    def applies(self) -> bool:
        return self.obstacle is None


class _Candidate:
    """A statement about the action asked for, and the decision if it applies, made when it first does."""

    __slots__ = ("attached", "conditions", "decision", "index", "literal", "resources", "written")

    def __init__(self, attached: Attached, index: int, written: str) -> None:
        rules = attached.document.rules
        self.attached = attached
        self.index = index
        self.written = written
        self.resources = rules.resources[index]
        self.literal = rules.literals[index]
        self.conditions = attached.document.statements[index].conditions
        self.decision: Decision | None = None

    @property
    def always(self) -> bool:
        """Whether it applies to whatever resource and request."""
        return self.resources is None and not self.conditions

    def decide(self, action: str) -> Decision:
        document, source, scope = self.attached
        allowed = document.statements[self.index].effect == "Allow"
        reason: Reason = "explicit allow" if allowed else "explicit deny"
        self.decision = Decision(allowed, reason, action, document.name, self.index, source, self.written, scope=scope)
        return self.decision


class PolicySet:
    """The compiled policies of one caller; made by :func:`compile_policies`. Threads may share it."""

    def __init__(self, policies: Sequence[Attached]) -> None:
        self._policies = policies
        self._memo: dict[str, tuple[tuple[_Candidate, ...], Decision]] = {}
        special = [policy.document for policy in policies if not policy.document.is_plain]
        self.asks_about_resource = any(document.asks_about_resource for document in special)
        """Whether a condition depends on the tags or the enterprise project of the resource."""
        self._missing: dict[int, tuple[str, ...]] = {}
        """What policies, by their identity, depend on and is not there."""
        if depending := [document for document in special if document.depends]:
            names = {policy.document.name for policy in policies}
            self._missing = {id(document): _missing(document, names) for document in depending}

    def decide(self, action: str, resource: str = "*", context: Context | None = None) -> Decision:
        """Whether the caller may do ``action`` on ``resource``.

        Actions compare without regard to case, resources with. ``"*"`` is the resource of an action that
        is about none in particular: a statement limited to certain resources does not apply to it.
        ``context`` gives the values of condition keys.
        """
        known = self._memo.get(action)
        candidates, otherwise = known if known is not None else self._look_up(action)
        for candidate in candidates:
            if candidate.literal not in resource:  # most patterns are about something else: the cheapest way to see it
                continue
            if candidate.resources is not None and not candidate.resources(resource):
                continue
            for condition in candidate.conditions:
                if not condition.holds(context or _NOTHING_KNOWN):
                    break
            else:
                return candidate.decision or candidate.decide(action)
        return otherwise

    def examine(self, action: str, resource: str = "*", context: Context | None = None) -> list[Examined]:
        """Every statement about ``action``, denials first, and what keeps those that do not apply from it."""
        found = []
        for policy in self._policies:
            missing = self._missing.get(id(policy.document), ())
            for index, written in policy.document.rules.about(action.lower()):
                statement = policy.document.statements[index]
                obstacle = _obstacle(policy.document, index, missing, resource, context or {})
                found.append(Examined(policy, index, statement.effect, written, obstacle))
        return sorted(found, key=lambda one: one.effect == "Allow")

    def _look_up(self, action: str) -> tuple[tuple[_Candidate, ...], Decision]:
        """The statements for an action in the order they decide, and the answer when none applies.

        Those that could not change the answer are left out: beside a statement that always applies, all others of
        its effect, and the allowances beside such a denial.
        """
        name = action.lower()
        denials: list[_Candidate] = []
        allowances: list[_Candidate] = []
        notes: dict[str, None] = {}
        for policy in self._policies:
            for index, written in policy.document.rules.about(name):
                if policy.document.statements[index].effect == "Deny":
                    denials.append(_Candidate(policy, index, written))
                elif missing := self._missing.get(id(policy.document), ()):
                    notes[_without_effect(policy.document.name, policy.source, missing)] = None
                else:
                    allowances.append(_Candidate(policy, index, written))
        if sure := next((one for one in denials if one.always), None):
            denials, allowances = [sure], []
        elif sure := next((one for one in allowances if one.always), None):
            allowances = [sure]
        found = (*denials, *allowances), Decision(False, "no statement allows it", action, notes=tuple(notes))
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        self._memo[action] = found
        return found


def compile_policies(policies: Iterable[Attached | tuple[PolicyDocument, str]]) -> PolicySet:
    """Make the policies attached to one caller ready for decisions.

    Each comes with its source, a free text such as "group interns". What a policy with ``Depends`` allows takes
    effect only if every policy it names is among those given; what it denies is denied in any case.
    """
    return PolicySet([Attached(*policy) for policy in policies])


def _missing(document: PolicyDocument, names: set[str]) -> tuple[str, ...]:
    return tuple(d.display_name for d in document.depends if d.display_name not in names)


def _without_effect(policy: str, source: str, missing: Sequence[str]) -> str:
    names = ", ".join(f'"{name}"' for name in missing)
    return f'policy "{policy}"{f" ({source})" if source else ""} is without effect until {names} is attached too'


def _obstacle(
    document: PolicyDocument, index: int, missing: Sequence[str], resource: str, context: Context
) -> str | None:
    statement = document.statements[index]
    if missing and statement.effect == "Allow":
        return f"it depends on {', '.join(missing)}, which is not attached"
    matches = document.rules.resources[index]
    if matches is not None and not matches(resource):
        return f"the resource {resource} is not among {', '.join(statement.resources)}"
    for condition in statement.conditions:
        if not condition.holds(context):
            value = context.get(condition.key)
            given = "is not known of this request" if value is None else f"is {value}"
            wanted = ", ".join(condition.values)
            return f"{condition.key} {given}, and the condition is {condition.operator} {wanted}"
    return None
