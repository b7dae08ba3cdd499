"""What a checked policy consists of, and how its statements are found by action (part of :mod:`bottega.iam`; pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from bottega.iam_conditions import ENTERPRISE_PROJECT, RESOURCE_TAG, Condition, glob

Effect = Literal["Allow", "Deny"]
Matcher = Callable[[str], bool]
_MEMO_LIMIT = 256


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


@dataclass(frozen=True)
class PolicyDocument:
    """A checked policy."""

    name: str
    version: Literal["1.0", "1.1"]
    statements: tuple[Statement, ...]
    depends: tuple[Dependency, ...] = ()

    @cached_property
    def rules(self) -> Rules:
        """Its statements ready to be searched; made once, at the first question."""
        return Rules(self.statements)

    @cached_property
    def is_plain(self) -> bool:
        """Whether it depends on no other policy and asks nothing about the resource."""
        return not (self.depends or self.asks_about_resource)

    @cached_property
    def asks_about_resource(self) -> bool:
        """Whether a condition of it depends on the tags or the enterprise project of the resource."""
        keys = (condition.key for statement in self.statements for condition in statement.conditions)
        return any(key == ENTERPRISE_PROJECT or key.startswith(RESOURCE_TAG) for key in keys)


class Rules:
    """The statements of one policy, by action."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.resources = tuple(any_of(s.resources) if s.resources else None for s in statements)
        self.literals = tuple(_literal(s.resources) for s in statements)
        """What occurs in each resource that a statement may be about; empty when nothing has to."""
        self._memo: dict[str, tuple[tuple[int, str], ...]] = {}
        self._exact: dict[str, list[tuple[int, str]]] = {}
        self._patterns: list[tuple[int, str, Matcher]] = []
        self._heads: tuple[str, ...] = ()
        """What stands before the first * of the patterns: most actions begin with none of them."""
        self._negated: list[tuple[int, str, list[Matcher]]] = []
        for index, statement in enumerate(statements):
            for action in statement.actions:
                if "*" in action:
                    self._patterns.append((index, action, glob(action.lower())))
                    self._heads = (*self._heads, action.lower().partition("*")[0])
                else:
                    self._exact.setdefault(action.lower(), []).append((index, action))
            if statement.not_actions:
                excluded = [glob(action.lower()) for action in statement.not_actions]
                self._negated.append((index, f"all but {', '.join(statement.not_actions)}", excluded))

    def about(self, action: str) -> tuple[tuple[int, str], ...]:
        """The statements about an action given in lower case, in order: index, and the action as written there."""
        found = self._memo.get(action)
        if found is None:
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            concerned = action in self._exact or action.startswith(self._heads) or self._negated
            found = self._memo[action] = tuple(sorted(self._search(action).items())) if concerned else ()
        return found

    def _search(self, action: str) -> dict[int, str]:
        found = dict(reversed(self._exact.get(action, ())))
        for index, written, matches in self._patterns:
            if index not in found and matches(action):
                found[index] = written
        return found | {
            index: written
            for index, written, excluded in self._negated
            if not any(matches(action) for matches in excluded)
        }


def _literal(patterns: Sequence[str]) -> str:
    return max(patterns[0].split("*"), key=len) if len(patterns) == 1 else ""


def any_of(patterns: Sequence[str]) -> Matcher | None:
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
