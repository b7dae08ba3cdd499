"""Permissions: parse policies, compile the ones a caller has, and decide with a reason. Pure, no I/O.

Policies are written as the guide shows (seed 002 §10.3-10.5): fine-grained ones (``Version`` 1.1) and
role-based ones (``Version`` 1.0, which may depend on others). A decision is an explicit ``Deny`` if any
applies, else an explicit ``Allow`` if any applies, else a denial because no statement allows it.

    caller = compile_policies([(parse_policy(text, "no-delete"), "group interns")])
    decision = caller.decide("modelarts:notebook:delete", "notebook:1", {"g:UserName": "alice"})
    decision.allowed, decision.explain()
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, NoReturn

from bottega.errors import Invalid
from bottega.iam_conditions import Condition, Context, glob, json_kind, parse_conditions, pointer

Effect = Literal["Allow", "Deny"]
Reason = Literal["explicit deny", "explicit allow", "no statement allows it", "loose authorization"]

_ACTION = re.compile(r"\*|[A-Za-z0-9_.*-]+:[A-Za-z0-9_.*-]+:[A-Za-z0-9_.*-]+")
_RIGHT_ACTION = "write service:resource:operation, such as modelarts:trainJob:create or modelarts:*:*"
_STATEMENT_KEYS = {
    "1.1": ("Effect", "Action", "NotAction", "Resource", "Condition"),
    "1.0": ("Effect", "Action"),
}
_DOCUMENT_KEYS = {"1.1": ("Version", "Statement"), "1.0": ("Version", "Statement", "Depends")}
_MEMO_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. Exactly one of ``actions`` and ``not_actions`` is not empty; no resources means all."""

    effect: Effect
    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Dependency:
    """A policy that a role-based policy needs to be attached beside it."""

    catalog: str
    display_name: str


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A checked policy."""

    name: str
    version: Literal["1.0", "1.1"]
    statements: tuple[Statement, ...]
    depends: tuple[Dependency, ...] = ()


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


# A statement that applies to an action: what its resource must match (None: any), its conditions, the answer.
_Candidate = tuple[Callable[[str], bool] | None, tuple[Condition, ...], Decision]


class PolicySet:
    """The compiled policies of one caller; made by :func:`compile_policies`. Threads may share it."""

    def __init__(self, policies: Sequence[Attached]) -> None:
        attached = {policy.document.name for policy in policies}
        self._exact: dict[str, list[tuple[_Compiled, str]]] = {}
        self._patterns: list[tuple[_Compiled, str, Callable[[str], bool]]] = []
        self._negated: list[tuple[_Compiled, list[Callable[[str], bool]]]] = []
        self._memo: dict[str, tuple[tuple[_Candidate, ...], Decision]] = {}
        order = 0
        for document, source, scope in policies:
            missing = tuple(d.display_name for d in document.depends if d.display_name not in attached)
            for index, statement in enumerate(document.statements):
                resources = _any_of(statement.resources) if statement.resources else None
                self._index(_Compiled(order, statement, resources, document.name, index, source, scope, missing))
                order += 1

    def _index(self, compiled: _Compiled) -> None:
        for action in compiled.statement.actions:
            if "*" in action:
                self._patterns.append((compiled, action, glob(action.lower())))
            else:
                self._exact.setdefault(action.lower(), []).append((compiled, action))
        if compiled.statement.not_actions:
            excluded = [glob(action.lower()) for action in compiled.statement.not_actions]
            self._negated.append((compiled, excluded))

    def decide(self, action: str, resource: str = "*", context: Context | None = None) -> Decision:
        """Whether the caller may do ``action`` on ``resource``.

        Actions compare without regard to case, resources with. ``"*"`` is the resource of an action that
        is about none in particular: a statement limited to certain resources does not apply to it.
        ``context`` gives the values of condition keys.
        """
        known = self._memo.get(action)
        candidates, otherwise = known if known is not None else self._look_up(action)
        for resources, conditions, decision in candidates:
            if resources is not None and not resources(resource):
                continue
            for condition in conditions:
                if not condition.holds(context or {}):
                    break
            else:
                return decision
        return otherwise

    def _look_up(self, action: str) -> tuple[tuple[_Candidate, ...], Decision]:
        """The statements for an action in the order they decide, and the answer when none applies."""
        name = action.lower()
        found: dict[int, tuple[_Compiled, str]] = {}
        for compiled, written in self._exact.get(name, ()):
            found.setdefault(compiled.order, (compiled, written))
        for compiled, written, matches in self._patterns:
            if matches(name):
                found.setdefault(compiled.order, (compiled, written))
        for compiled, excluded in self._negated:
            if not any(matches(name) for matches in excluded):
                written = f"all but {', '.join(compiled.statement.not_actions)}"
                found[compiled.order] = (compiled, written)
        ordered = sorted(found.values(), key=lambda item: (item[0].statement.effect == "Allow", item[0].order))
        notes = [
            compiled.without_effect()
            for compiled, _ in ordered
            if compiled.missing and compiled.statement.effect == "Allow"
        ]
        candidates = tuple(
            compiled.candidate(action, written)
            for compiled, written in ordered
            if not compiled.missing or compiled.statement.effect == "Deny"
        )
        unmet = Decision(False, "no statement allows it", action, notes=tuple(dict.fromkeys(notes)))
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        self._memo[action] = candidates, unmet
        return candidates, unmet


@dataclass(frozen=True, slots=True, eq=False)
class _Compiled:
    order: int
    statement: Statement
    resources: Callable[[str], bool] | None
    policy: str
    index: int
    source: str
    scope: str | None
    missing: tuple[str, ...]

    def candidate(self, action: str, written: str) -> _Candidate:
        allowed = self.statement.effect == "Allow"
        reason: Reason = "explicit allow" if allowed else "explicit deny"
        decision = Decision(allowed, reason, action, self.policy, self.index, self.source, written, scope=self.scope)
        return self.resources, self.statement.conditions, decision

    def without_effect(self) -> str:
        source = f" ({self.source})" if self.source else ""
        missing = ", ".join(f'"{name}"' for name in self.missing)
        return f'policy "{self.policy}"{source} is without effect until {missing} is attached too'


def compile_policies(policies: Iterable[Attached | tuple[PolicyDocument, str]]) -> PolicySet:
    """Make the policies attached to one caller ready for decisions.

    Each comes with its source, a free text such as "group interns". What a policy with ``Depends`` allows takes
    effect only if every policy it names is among those given; what it denies is denied in any case.
    """
    return PolicySet([Attached(*policy) for policy in policies])


def _any_of(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    """A matcher for any of the patterns, None when they match everything."""
    if "*" in patterns:
        return None
    exact = frozenset(pattern for pattern in patterns if "*" not in pattern)
    globs = [glob(pattern) for pattern in patterns if "*" in pattern]
    if not globs:
        return exact.__contains__
    if len(globs) == 1 and not exact:
        return globs[0]
    return lambda text: text in exact or any(matches(text) for matches in globs)


def parse_policy(document: dict[str, Any] | str | bytes, name: str = "") -> PolicyDocument:
    """Check a policy and make it ready to compile.

    Raises:
        Invalid: it is no JSON, or breaks the policy syntax; the message names the position (line and column
            for text that is no JSON, else a JSON pointer), what is wrong there and what would be right.
    """
    try:
        return _document(_read(document) if isinstance(document, str | bytes) else document, name)
    except Invalid as error:
        # A lone surrogate, which JSON text may escape, must not end up in an answer that is sent as UTF-8.
        message = error.message.encode("utf-8", "backslashreplace").decode()
        raise Invalid(f'policy "{name}": {message}' if name else message) from None


def _read(text: str | bytes) -> object:
    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(items)
        if len(members) < len(items):
            names = [key for key, _ in items]
            twice = next(key for key in names if names.count(key) > 1)
            raise Invalid(f"{twice!r} stands twice in one object: write it once")
        return members

    def no_number(constant: str) -> NoReturn:
        raise Invalid(f"{constant} is not JSON: write a number")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=no_number)
    except json.JSONDecodeError as error:
        raise Invalid(f"line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise Invalid(f"byte {error.start}: not UTF-8 text: save the policy as UTF-8") from None
    except ValueError:
        raise Invalid("a number has too many digits: write a shorter one") from None
    except RecursionError:
        raise Invalid("nested too deeply: a policy has at most six levels") from None


def _document(element: object, name: str) -> PolicyDocument:
    if not isinstance(element, dict):
        raise Invalid(f'the policy is {json_kind(element)}: write {{"Version": "1.1", "Statement": [...]}}')
    version = element.get("Version")
    if version != "1.0" and version != "1.1":
        raise Invalid(f'/Version is {_shown(version)}: write "1.1" (fine-grained) or "1.0" (role-based)')
    _only(element, _DOCUMENT_KEYS[version], "", version)
    statements = _list(element.get("Statement"), "/Statement", "a list of statements")
    depends = element.get("Depends", [])
    if not isinstance(depends, list):
        raise Invalid(f"/Depends is {json_kind(depends)}: write a list of dependencies")
    return PolicyDocument(
        name,
        version,
        tuple(_statement(item, pointer("/Statement", i), version) for i, item in enumerate(statements)),
        tuple(_dependency(item, pointer("/Depends", i)) for i, item in enumerate(depends)),
    )


def _dependency(element: object, at: str) -> Dependency:
    right = '{"catalog": "BASE", "display_name": "Tenant Guest"}'
    if not isinstance(element, dict) or set(element) != {"catalog", "display_name"}:
        raise Invalid(f"{at} must have a catalog and a display_name and nothing else: write {right}")
    for key, value in element.items():
        if not isinstance(value, str) or not value:
            raise Invalid(f"{pointer(at, key)} is {_shown(value)}: write a name, as in {right}")
    return Dependency(element["catalog"], element["display_name"])


def _statement(element: object, at: str, version: str) -> Statement:
    if not isinstance(element, dict):
        right = '{"Effect": "Allow", "Action": ["modelarts:notebook:list"]}'
        raise Invalid(f"{at} is {json_kind(element)}: write a statement such as {right}")
    _only(element, _STATEMENT_KEYS[version], at, version)
    effect: Effect
    match element.get("Effect"):
        case "Allow":
            effect = "Allow"
        case "Deny":
            effect = "Deny"
        case other:
            raise Invalid(f'{pointer(at, "Effect")} is {_shown(other)}: write "Allow" or "Deny"')
    if ("Action" in element) == ("NotAction" in element):
        wrong = "has both Action and NotAction" if "Action" in element else "has no Action"
        raise Invalid(f"{at} {wrong}: give it exactly one of Action and NotAction")
    return Statement(
        effect,
        _actions(element["Action"], pointer(at, "Action")) if "Action" in element else (),
        _actions(element["NotAction"], pointer(at, "NotAction")) if "NotAction" in element else (),
        _resources(element["Resource"], pointer(at, "Resource")) if "Resource" in element else (),
        parse_conditions(element["Condition"], pointer(at, "Condition")) if "Condition" in element else (),
    )


def _actions(element: object, at: str) -> tuple[str, ...]:
    actions = _texts(element, at, "an action or a list of actions")
    for here, action in actions:
        if not _ACTION.fullmatch(action):
            right = (
                f"write {action.replace('>', ':')}" if _ACTION.fullmatch(action.replace(">", ":")) else _RIGHT_ACTION
            )
            raise Invalid(f"{here}: {_shown(action)} is not an action: {right}")
    return tuple(action for _, action in actions)


def _resources(element: object, at: str) -> tuple[str, ...]:
    if isinstance(element, dict):
        if set(element) != {"uri"}:
            raise Invalid(f'{at} must have a uri and nothing else: write {{"uri": ["/iam/agencies/*"]}}')
        element, at = element["uri"], pointer(at, "uri")
    resources = _texts(element, at, "a resource pattern or a list of them")
    for here, resource in resources:
        if not resource:
            raise Invalid(f"{here} is empty: write a resource pattern, such as obs:*:*:bucket:* or *")
    return tuple(resource for _, resource in resources)


def _texts(element: object, at: str, right: str) -> list[tuple[str, str]]:
    """The texts of an element that is one text or a list of them, each with its position."""
    if isinstance(element, str):
        return [(at, element)]
    texts = []
    for index, item in enumerate(_list(element, at, right)):
        here = pointer(at, index)
        if not isinstance(item, str):
            raise Invalid(f"{here} is {_shown(item)}: write a text")
        texts.append((here, item))
    return texts


def _list(element: object, at: str, right: str) -> list[object]:
    if element is None:
        raise Invalid(f"{at} is missing: write {right}")
    if not isinstance(element, list):
        raise Invalid(f"{at} is {json_kind(element)}: write {right}")
    if not element:
        raise Invalid(f"{at} is empty: write {right}")
    return element


def _only(element: dict[str, Any], allowed: Sequence[str], at: str, version: str) -> None:
    for key in element:
        if key in allowed:
            continue
        near = get_close_matches(str(key), allowed, 1)
        right = f"write {near[0]}" if near else f"version {version} knows {', '.join(allowed)}"
        raise Invalid(f"{pointer(at, key)}: {_shown(key)} does not belong here: {right}")


def _shown(value: object) -> str:
    """A value as a message can show it: short, on one line."""
    if isinstance(value, dict | list | None):
        return json_kind(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
