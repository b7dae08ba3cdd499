"""Permission decisions for a caller with 50 policies, beside Cedar and Casbin on the same policies.

The policies are made by a seeded generator and translated for the peers: exact and wildcard actions,
resource patterns, conditions on the user's name, its second factor and its address, a fifth of the
statements denials. Every engine answers the same questions and all answers are checked equal. Policies are
parsed before; each decision is timed by itself, with actions seen before and resources that never repeat.

Run: ``python tests/benchmarks/bench_iam.py``; the exit status is 1 when a budget is missed.
"""

from __future__ import annotations

import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import casbin
import cedarpy

from bottega.iam import PolicyDocument, PolicySet, compile_policies, parse_policy
from bottega.iam_conditions import Context

POLICIES = 50
QUESTIONS = 1000
DECISION_BUDGET_US = 2.0
COMPILE_BUDGET_MS = 20.0

SERVICES = ("modelarts", "obs", "swr", "iam")
KINDS = ("dataset", "notebook", "trainJob", "model", "service", "bucket")
OPERATIONS = ("list", "get", "create", "update", "delete", "start", "stop")
USERS = ("ann", "bob", "cat")
ADDRESSES = ("10.1.2.3", "192.0.2.7", "198.51.100.9")

Question = tuple[str, str, dict[str, Any]]


def make_documents(rng: random.Random) -> list[dict[str, Any]]:
    def action() -> str:
        parts = [rng.choice(SERVICES), rng.choice(KINDS), rng.choice(OPERATIONS)]
        if rng.random() < 0.3:
            parts[2] = rng.choice(["*", parts[2][:2] + "*"])
        if rng.random() < 0.1:
            parts[1] = "*"
        return ":".join(parts)

    def resource() -> str:
        rest = rng.choice(["*", f"team-{rng.choice('ab')}/*", f"*/{rng.choice('xyz')}*"])
        return f"p{rng.randint(0, 3)}/{rest}"

    def statement() -> dict[str, Any]:
        made: dict[str, Any] = {
            "Effect": "Deny" if rng.random() < 0.2 else "Allow",
            "Action": [action() for _ in range(rng.randint(1, 4))],
        }
        if rng.random() < 0.5:
            made["Resource"] = [resource() for _ in range(rng.randint(1, 3))]
        conditions: dict[str, Any] = {}
        if rng.random() < 0.15:
            conditions["StringEquals"] = {"g:UserName": rng.sample(USERS, 1)}
        if rng.random() < 0.15:
            conditions["Bool"] = {"g:MFAPresent": ["true"]}
        if rng.random() < 0.15:
            conditions["IpAddress"] = {"g:SourceIp": ["10.0.0.0/8"]}
        if conditions:
            made["Condition"] = conditions
        return made

    return [{"Version": "1.1", "Statement": [statement() for _ in range(rng.randint(1, 3))]} for _ in range(POLICIES)]


def make_questions(rng: random.Random) -> list[Question]:
    questions: list[Question] = []
    for number in range(QUESTIONS):
        action = ":".join((rng.choice(SERVICES), rng.choice(KINDS), rng.choice(OPERATIONS)))
        resource = f"p{rng.randint(0, 4)}/team-{rng.choice('abc')}/{rng.choice('wxyz')}{number}"
        context: Context = {
            "g:UserName": rng.choice(USERS),
            "g:MFAPresent": rng.random() < 0.5,
            "g:SourceIp": rng.choice(ADDRESSES),
        }
        questions.append((action, resource, dict(context)))
    return questions


def to_cedar(documents: list[dict[str, Any]]) -> str:
    def any_like(name: str, patterns: Iterable[str]) -> str:
        return " || ".join(f'context.{name} like "{pattern}"' for pattern in patterns)

    made = []
    for statement in (statement for document in documents for statement in document["Statement"]):
        exact = all("*" not in action for action in statement["Action"])
        actions = ", ".join(f'Action::"{action}"' for action in statement["Action"])
        tests = [] if exact else [any_like("action", statement["Action"])]
        tests += [any_like("resource", statement["Resource"])] if "Resource" in statement else []
        conditions = statement.get("Condition", {})
        if "StringEquals" in conditions:
            tests.append(f'context.user == "{conditions["StringEquals"]["g:UserName"][0]}"')
        if "Bool" in conditions:
            tests.append("context.mfa")
        if "IpAddress" in conditions:
            tests.append(f'context.ip.isInRange(ip("{conditions["IpAddress"]["g:SourceIp"][0]}"))')
        effect = "permit" if statement["Effect"] == "Allow" else "forbid"
        head = f"action in [{actions}]" if exact else "action"
        when = f" when {{ {' && '.join(f'({test})' for test in tests)} }}" if tests else ""
        made.append(f"{effect} (principal, {head}, resource){when};")
    return "\n".join(made)


def cedar_request(question: Question) -> dict[str, Any]:
    action, resource, context = question
    return {
        "principal": {"type": "User", "id": context["g:UserName"]},
        "action": {"type": "Action", "id": action},
        "resource": {"type": "Resource", "id": resource},
        "context": {
            "action": action,
            "resource": resource,
            "user": context["g:UserName"],
            "mfa": context["g:MFAPresent"],
            "ip": {"__extn": {"fn": "ip", "arg": context["g:SourceIp"]}},
        },
    }


CASBIN_MODEL = """
[request_definition]
r = act, obj, user, mfa, ip
[policy_definition]
p = act, obj, user, mfa, net, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = regexMatch(r.act, p.act) && regexMatch(r.obj, p.obj) && (p.user == "*" || r.user == p.user) \
&& (p.mfa == "*" || r.mfa == p.mfa) && (p.net == "*" || ipMatch(r.ip, p.net))
"""


def to_casbin(documents: list[dict[str, Any]]) -> casbin.Enforcer:
    """A statement becomes a line for each pair of action and resource pattern."""

    def regex(pattern: str) -> str:
        return "^" + re.escape(pattern).replace(r"\*", ".*") + "$"

    model = casbin.Model()
    model.load_model_from_text(CASBIN_MODEL)
    enforcer = casbin.Enforcer(model)
    lines = []
    for statement in (statement for document in documents for statement in document["Statement"]):
        conditions = statement.get("Condition", {})
        user = conditions.get("StringEquals", {}).get("g:UserName", ["*"])[0]
        mfa = conditions.get("Bool", {}).get("g:MFAPresent", ["*"])[0]
        network = conditions.get("IpAddress", {}).get("g:SourceIp", ["*"])[0]
        lines += [
            [regex(action), regex(resource), user, mfa, network, statement["Effect"].lower()]
            for action in statement["Action"]
            for resource in statement.get("Resource", ["*"])
        ]
    enforcer.add_policies([list(line) for line in dict.fromkeys(map(tuple, lines))])
    return enforcer


def timed(answer: Callable[[Any], bool], questions: Iterable[Any]) -> tuple[list[bool], list[float]]:
    """The answers, and the microseconds each took."""
    answers, took = [], []
    clock = time.perf_counter_ns
    for question in questions:
        started = clock()
        given = answer(question)
        took.append((clock() - started) / 1000)
        answers.append(given)
    return answers, took


def compile_ms(documents: list[PolicyDocument]) -> float:
    rounds = []
    for _ in range(20):
        started = time.perf_counter()
        compile_policies((document, "group g") for document in documents)
        rounds.append((time.perf_counter() - started) * 1000)
    return statistics.median(rounds)


def main() -> int:
    rng = random.Random(20261120)
    documents = make_documents(rng)
    questions = make_questions(rng)
    parsed = [parse_policy(document, f"policy-{number}") for number, document in enumerate(documents)]

    caller: PolicySet = compile_policies((document, "group g") for document in parsed)
    cold = timed(lambda q: caller.decide(*q).allowed, questions[:1])[1][0]
    expected, _ = timed(lambda q: caller.decide(*q).allowed, questions)
    shares = Counter(caller.decide(*question).reason for question in questions)
    took = []
    for _ in range(10):
        took += timed(lambda q: caller.decide(*q).allowed, questions)[1]
    ours = statistics.median(took)

    cedar_policies = cedarpy.PolicySet.from_str(to_cedar(documents))
    entities = cedarpy.Entities.from_json_str("[]")
    cedar_answers, cedar_took = timed(
        lambda request: bool(cedarpy.is_authorized(request, cedar_policies, entities).allowed),
        [cedar_request(question) for question in questions],
    )
    enforcer = to_casbin(documents)
    casbin_answers, casbin_took = timed(
        lambda request: bool(enforcer.enforce(*request)),
        [(a, r, c["g:UserName"], str(c["g:MFAPresent"]).lower(), c["g:SourceIp"]) for a, r, c in questions],
    )
    for peer, answers in (("cedarpy", cedar_answers), ("casbin", casbin_answers)):
        differing = [q for q, a, b in zip(questions, expected, answers, strict=True) if a != b]
        if differing:
            raise SystemExit(f"{peer} answers {len(differing)} questions otherwise, the first: {differing[0]}")

    compiled = compile_ms(parsed)
    mix = ", ".join(f"{count} {reason}" for reason, count in sorted(shares.items()))
    print(f"IAM: {POLICIES} policies, {QUESTIONS} questions ({mix}), all answers equal; medians")
    print(f"{'figure':<32}{'bottega':>12}{'peer':>24}{'ratio':>10}   budget")
    for name, peer_took in (("cedarpy", cedar_took), ("casbin", casbin_took)):
        theirs = statistics.median(peer_took)
        peer = f"{name} {theirs:.1f} us"
        print(f"{'decision':<32}{ours:>9.2f} us{peer:>24}{theirs / ours:>9.0f}x   <= {DECISION_BUDGET_US} us")
    p99 = statistics.quantiles(took, n=100)[98]
    print(f"{'decision, 99th of 100':<32}{p99:>9.2f} us")
    print(f"{'decision, first of all':<32}{cold:>9.2f} us")
    print(f"{'compile':<32}{compiled:>9.2f} ms{'':>34}   <= {COMPILE_BUDGET_MS:.0f} ms")
    return 0 if ours <= DECISION_BUDGET_US and compiled <= COMPILE_BUDGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
