"""Reading policies: every mistake with its position and what would be right (part of :mod:`bottega.iam`; pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, NoReturn, cast

from bottega.errors import Invalid
from bottega.iam_conditions import json_kind, parse_conditions, pointer
from bottega.iam_statements import Dependency, Effect, PolicyDocument, Statement

_ACTION = re.compile(r"\*|[A-Za-z0-9_.*-]+:[A-Za-z0-9_.*-]+:[A-Za-z0-9_.*-]+")
_RIGHT_ACTION = "write service:resource:operation, such as modelarts:trainJob:create or modelarts:*:*"
_STATEMENT_KEYS = {
    "1.1": ("Effect", "Action", "NotAction", "Resource", "Condition"),
    "1.0": ("Effect", "Action"),
}
_DOCUMENT_KEYS = {"1.1": ("Version", "Statement"), "1.0": ("Version", "Statement", "Depends")}
_MOST_PROBLEMS = 100
_MOST_TOLD = 20
_VERBS = ("is ", "has ", "must ")


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake in a policy.

    ``position`` is a JSON pointer, line and column for text that is no JSON, or empty for the whole policy;
    ``reason`` says what is wrong there and what would be right.
    """

    position: str
    reason: str

    def __str__(self) -> str:
        if not self.position:
            return self.reason
        return f"{self.position}{' ' if self.reason.startswith(_VERBS) else ': '}{self.reason}"


class InvalidPolicy(Invalid):
    """The policy breaks the policy syntax."""

    def __init__(self, problems: Sequence[Problem], name: str = "") -> None:
        self.problems = tuple(problems)
        told = [str(problem) for problem in self.problems[:_MOST_TOLD]]
        if len(self.problems) > _MOST_TOLD:
            told.append(f"and {len(self.problems) - _MOST_TOLD} more mistakes")
        message = "; ".join(told)
        super().__init__(f'policy "{name}": {message}' if name else message)


def parse_policy(document: dict[str, Any] | str | bytes, name: str = "") -> PolicyDocument:
    """Check a policy and make it ready to compile.

    Raises:
        InvalidPolicy: it is no JSON, or breaks the policy syntax; it names every mistake (its ``problems``).
    """
    reader = _Reader()
    policy = reader.read(document, name)
    if policy is None:
        raise InvalidPolicy(reader.problems, name)
    return policy


def check_policy(document: dict[str, Any] | str | bytes) -> list[Problem]:
    """Every mistake of a policy (the first 100), in the order of the document; none when it may be used."""
    reader = _Reader()
    reader.read(document, "")
    return reader.problems


class _Unreadable(Exception):
    """What was read is no JSON at all; the problem is noted."""


class _Reader:
    """Reads one policy. What it cannot read it notes, and goes on with the rest."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, at: str, reason: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            # A lone surrogate, which JSON text may escape, must not end up in an answer that is sent as UTF-8.
            self.problems.append(Problem(*(part.encode("utf-8", "backslashreplace").decode() for part in (at, reason))))

    def read(self, document: object, name: str) -> PolicyDocument | None:
        try:
            element = self._json(document) if isinstance(document, str | bytes) else document
        except _Unreadable:
            return None
        policy = self._document(element, name)
        return None if self.problems else policy

    def _json(self, text: str | bytes) -> object:
        def unreadable(at: str, reason: str) -> NoReturn:
            self.wrong(at, reason)
            raise _Unreadable

        def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
            members = dict(items)
            if len(members) < len(items):
                names = [key for key, _ in items]
                for twice in dict.fromkeys(key for key in names if names.count(key) > 1):
                    self.wrong("", f"{twice!r} stands twice in one object: write it once")
            return members

        def no_number(constant: str) -> NoReturn:
            unreadable("", f"{constant} is not JSON: write a number")

        try:
            return json.loads(text, object_pairs_hook=pairs, parse_constant=no_number)
        except json.JSONDecodeError as error:
            unreadable(f"line {error.lineno} column {error.colno}", f"not JSON: {error.msg}")
        except UnicodeDecodeError as error:
            unreadable(f"byte {error.start}", "not UTF-8 text: save the policy as UTF-8")
        except ValueError:
            unreadable("", "a number has too many digits: write a shorter one")
        except RecursionError:
            unreadable("", "nested too deeply: a policy has at most six levels")

    def _document(self, element: object, name: str) -> PolicyDocument | None:
        if not isinstance(element, dict):
            self.wrong("", f'the policy is {json_kind(element)}: write {{"Version": "1.1", "Statement": [...]}}')
            return None
        given = element.get("Version")
        if given != "1.0" and given != "1.1":
            self.wrong("/Version", f'is {_shown(given)}: write "1.1" (fine-grained) or "1.0" (role-based)')
        version: Literal["1.0", "1.1"] = "1.0" if given == "1.0" else "1.1"
        self._only(element, _DOCUMENT_KEYS[version], "", version)
        statements = self._list(element.get("Statement"), "/Statement", "a list of statements")
        depends = element.get("Depends", []) if version == "1.0" else []
        if not isinstance(depends, list):
            self.wrong("/Depends", f"is {json_kind(depends)}: write a list of dependencies")
            depends = []
        found = [self._statement(item, pointer("/Statement", i), version) for i, item in enumerate(statements)]
        needed = [self._dependency(item, pointer("/Depends", i)) for i, item in enumerate(depends)]
        return PolicyDocument(
            name, version, tuple(s for s in found if s is not None), tuple(d for d in needed if d is not None)
        )

    def _dependency(self, element: object, at: str) -> Dependency | None:
        right = '{"catalog": "BASE", "display_name": "Tenant Guest"}'
        if not isinstance(element, dict) or set(element) != {"catalog", "display_name"}:
            self.wrong(at, f"must have a catalog and a display_name and nothing else: write {right}")
            return None
        for key, value in element.items():
            if not isinstance(value, str) or not value:
                self.wrong(pointer(at, key), f"is {_shown(value)}: write a name, as in {right}")
        return Dependency(element["catalog"], element["display_name"])

    def _statement(self, element: object, at: str, version: str) -> Statement | None:
        if not isinstance(element, dict):
            right = '{"Effect": "Allow", "Action": ["modelarts:notebook:list"]}'
            self.wrong(at, f"is {json_kind(element)}: write a statement such as {right}")
            return None
        self._only(element, _STATEMENT_KEYS[version], at, version)
        effect = element.get("Effect")
        if effect != "Allow" and effect != "Deny":
            self.wrong(pointer(at, "Effect"), f'is {_shown(effect)}: write "Allow" or "Deny"')
        if ("Action" in element) == ("NotAction" in element):
            wrong = "has both Action and NotAction" if "Action" in element else "has no Action"
            self.wrong(at, f"{wrong}: give it exactly one of Action and NotAction")
        return Statement(
            cast(Effect, effect),
            self._actions(element["Action"], pointer(at, "Action")) if "Action" in element else (),
            self._actions(element["NotAction"], pointer(at, "NotAction")) if "NotAction" in element else (),
            self._resources(element["Resource"], pointer(at, "Resource")) if "Resource" in element else (),
            parse_conditions(element["Condition"], pointer(at, "Condition"), self.wrong)
            if "Condition" in element
            else (),
        )

    def _actions(self, element: object, at: str) -> tuple[str, ...]:
        actions = self._texts(element, at, "an action or a list of actions")
        for here, action in actions:
            if not _ACTION.fullmatch(action):
                repaired = action.replace(">", ":")
                right = f"write {repaired}" if _ACTION.fullmatch(repaired) else _RIGHT_ACTION
                self.wrong(here, f"{_shown(action)} is not an action: {right}")
        return tuple(action for _, action in actions)

    def _resources(self, element: object, at: str) -> tuple[str, ...]:
        if isinstance(element, dict):
            if set(element) != {"uri"}:
                self.wrong(at, 'must have a uri and nothing else: write {"uri": ["/iam/agencies/*"]}')
                return ()
            element, at = element["uri"], pointer(at, "uri")
        resources = self._texts(element, at, "a resource pattern or a list of them")
        for here, resource in resources:
            if not resource:
                self.wrong(here, "is empty: write a resource pattern, such as obs:*:*:bucket:* or *")
        return tuple(resource for _, resource in resources)

    def _texts(self, element: object, at: str, right: str) -> list[tuple[str, str]]:
        """The texts of an element that is one text or a list of them, each with its position."""
        if isinstance(element, str):
            return [(at, element)]
        texts = []
        for index, item in enumerate(self._list(element, at, right)):
            here = pointer(at, index)
            if isinstance(item, str):
                texts.append((here, item))
            else:
                self.wrong(here, f"is {_shown(item)}: write a text")
        return texts

    def _list(self, element: object, at: str, right: str) -> list[object]:
        if element is None:
            self.wrong(at, f"is missing: write {right}")
        elif not isinstance(element, list):
            self.wrong(at, f"is {json_kind(element)}: write {right}")
        elif not element:
            self.wrong(at, f"is empty: write {right}")
        else:
            return element
        return []

    def _only(self, element: dict[str, Any], allowed: Sequence[str], at: str, version: str) -> None:
        for key in element:
            if key in allowed:
                continue
            near = get_close_matches(str(key), allowed, 1)
            right = f"write {near[0]}" if near else f"version {version} knows {', '.join(allowed)}"
            self.wrong(pointer(at, key), f"{_shown(key)} does not belong here: {right}")


def _shown(value: object) -> str:
    """A value as a message can show it: short, on one line."""
    if isinstance(value, dict | list | None):
        return json_kind(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
