"""Which operations of the vendor's clients work here: recorded by the tests, kept in docs/conformance.md.

A test wraps a client it has built, unchanged, with the fixture ``operations``; each operation it then calls counts as
working when it answered and the test passed, or as not supported when it was refused with `NotSupported`'s error code.
``pytest tests/conformance --write-table`` writes the tables; the last test compares them with what happened.
"""

from __future__ import annotations

import importlib
import inspect
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from PIL import Image

from bottega.client import ApiFailure, Client
from bottega.errors import NotSupported
from bottega.testing import RunningPlatform, Tenant, wait_until

from . import reference
from .answers import Checker

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
WORKS, MISSING = "works", "missing"
NAMED_AGAIN = "works when it is given `dataset_id` once more"
BROKEN = "its resource works; the method itself fails in the client (KeyError), before it sends anything"


def of_the_vendors_client(client: str) -> dict[str, str]:
    """Each operation of an installed client, with its method and path."""
    module, _, name = client.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    found = {}
    for attribute in dir(cls):
        operation = re.fullmatch(r"_(\w+)_http_info", attribute)
        if operation:
            source = inspect.getsource(getattr(cls, attribute))
            method, path = (re.search(rf'"{k}": "(.*?)"', source) for k in ("method", "resource_path"))
            assert method is not None
            assert path is not None
            found[operation[1]] = f"{method[1]} {path[1]}"
    return found


def of_the_openstack_client(client: str) -> dict[str, str]:
    """Each method of a proxy of ``otcextensions``, with the path of the resource it is about."""
    module = importlib.import_module(client.rpartition(".")[0] + "._proxy")
    found = {}
    for name, method in vars(module.Proxy).items():
        if not name.startswith("_") and callable(method):
            kind = re.findall(r"(_\w+)\.([A-Z]\w+)", inspect.getsource(method))[-1]
            found[name] = str(getattr(getattr(module, kind[0]), kind[1]).base_path)
    return found


def of_the_reference(_: str) -> dict[str, str]:
    """Each documented operation of data management by its title."""
    return {one.title: one.call for one in reference.operations()}


@dataclass
class Table:
    """The operations of one client, all or (`only`: found in ``GET /path``) some, and what became of each."""

    title: str
    client: str
    only: str = ""
    listed: Callable[[str], dict[str, str]] = of_the_vendors_client
    outcomes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def operations(self) -> dict[str, str]:
        """Each operation's name with its method and path."""
        return {name: call for name, call in self.listed(self.client).items() if re.search(self.only, call)}

    @property
    def rows(self) -> dict[str, tuple[str, str]]:
        return {name: (call, self.outcomes.get(name, MISSING)) for name, call in self.operations.items()}

    @property
    def text(self) -> str:
        outcomes = [outcome for _, outcome in self.rows.values()]
        works = sum(one.startswith(WORKS) for one in outcomes)
        missing, broken = outcomes.count(MISSING), outcomes.count(BROKEN)
        refused = len(outcomes) - works - missing - broken
        at_fault = f" {broken} fail in the client," if broken else ""
        lines = [
            f"{len(outcomes)} operations: {works} work,{at_fault} {refused} are not supported, {missing} are missing.",
            "",
            "| Operation | Call | Here |",
            "|---|---|---|",
            *(f"| `{name}` | `{call}` | {outcome} |" for name, (call, outcome) in self.rows.items()),
        ]
        return "\n".join(lines)

    def documented(self, page: str) -> str:
        found = re.search(rf"(?<=<!-- table {self.title} -->\n).*?(?=\n<!-- end -->)", page, re.DOTALL)
        assert found, f"docs/conformance.md has no place for the table '{self.title}'"
        assert found[0], f"the place for the table '{self.title}' in docs/conformance.md needs a line of its own"
        return found[0]


TABLES = [
    Table("iam", "huaweicloudsdkiam.v3.IamClient"),
    Table("smn", "huaweicloudsdksmn.v2.SmnClient"),
    Table(
        "modelarts-access",
        "huaweicloudsdkmodelarts.v1.ModelArtsClient",
        only=r"/(auth-mode|agency|authorizations|workspaces|quotas|training-quotas|os-user-config)\b"
        r"|/(notebooks|modelarts-service-v2|modelarts-training-job)(/{\w+})?/(tags|resource-instances)\b",
    ),
    Table("cts", "huaweicloudsdkcts.v3.CtsClient"),
    Table("kps", "huaweicloudsdkkps.v3.KpsClient", only=r"/keypairs(/{keypair_name})?$"),
    Table("otc-modelartsv2", "otcextensions.sdk.modelartsv2.v2.Proxy", listed=of_the_openstack_client),
    Table("data-management", "rest_api", listed=of_the_reference),
]


class Recording:
    """Stands before a client and notes the outcome of each operation called."""

    def __init__(self, client: Any, seen: dict[tuple[str, str], str]) -> None:
        self._client, self._seen = client, seen
        self._name = f"{type(client).__module__.rpartition('.')[0]}.{type(client).__name__}"

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._client, operation)

        def call(*arguments: Any, **named: Any) -> Any:
            key = (self._name, operation)
            try:
                answer = method(*arguments, **named)
                answer = list(answer) if inspect.isgenerator(answer) else answer
            except Exception as e:  # whatever the client raises goes on to the test; a refusal may mean something
                if getattr(e, "error_code", None) == NotSupported.code:
                    self._seen.setdefault(key, f"not supported: {getattr(e, 'error_msg', '')}")
                raise
            self._seen[key] = WORKS
            return answer

        kind = type(self._client)
        return call if hasattr(kind, f"_{operation}_http_info") or operation in vars(kind) else method


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], str]]:
    """What became of operations, by client and name; it counts when the test passes."""
    seen: dict[tuple[str, str], str] = {}
    yield seen
    if request.node.stash.get(PASSED, False):
        for table in TABLES:
            for (client, operation), outcome in seen.items():
                if client == table.client and table.outcomes.get(operation) != WORKS:
                    table.outcomes[operation] = outcome


@pytest.fixture
def by_resource(seen: dict[tuple[str, str], str]) -> Callable[..., None]:
    """``by_resource(client, *names)`` notes methods that fail in a client, and whose resources were called instead."""
    return lambda client, *methods: seen.update({(client, one): BROKEN for one in methods})


@pytest.fixture
def named_again(seen: dict[tuple[str, str], str]) -> Callable[..., None]:
    """``named_again(client, *names)`` notes methods that worked because they were given more than they ask for."""
    return lambda client, *methods: seen.update({(client, one): NAMED_AGAIN for one in methods})


@pytest.fixture
def operations(seen: dict[tuple[str, str], str]) -> Callable[[Any], Any]:
    """``operations(client)`` is the same client, with its calls recorded for the tables."""
    return lambda client: Recording(client, seen)


ANSWERED: defaultdict[str, set[str]] = defaultdict(set)
"""The documented fields that answers had, by the operation's title, over all calls of a run."""


class Documented:
    """A client whose every call is one of the reference, whose answer has documented types, and is recorded."""

    def __init__(self, client: Client, seen: dict[tuple[str, str], str]) -> None:
        self._client, self._seen = client, seen

    def call(self, title: str, body: Any = None, query: Mapping[str, Any] | None = None, **path: Any) -> Any:
        """Call the operation of this title. Raises ApiFailure when it is refused."""
        (operation,) = (one for one in reference.operations() if one.title == title)
        url = re.sub(r"{(?!project_id)(\w+)}", lambda found: path[found[1]], operation.path)
        try:
            response = self._client.request(operation.method, url, json=body, params=query)
        except ApiFailure as e:
            told = {"error_code": e.error_code, "error_msg": e.message}
            ANSWERED[title] |= set(reference.answered(told, operation.answer, operation.answer_models, title))
            raise
        answer = response.json() if response.content else {}
        wrong = list(reference.wrong(answer, operation.answer, operation.answer_models))
        assert wrong == [], f"{title}: {wrong}"
        ANSWERED[title] |= set(reference.answered(answer, operation.answer, operation.answer_models, title))
        self._seen["rest_api", title] = WORKS
        return answer

    def until(self, title: str, reached: Callable[[Any], bool], **path: Any) -> Any:
        """The answer to an operation once it is as wanted."""

        def ask() -> Any:
            answer = self.call(title, **path)
            return answer if reached(answer) else None

        return wait_until(ask, 120)

    def finished(self, title: str, dataset_id: str, task_id: str) -> Any:
        """The answer about a task of a dataset once it has ended, well or not."""
        ids = {"dataset_id": dataset_id, "resource_id": dataset_id, "task_id": task_id}
        return self.until(title, lambda task: task["status"] in ("COMPLETED", "SUCCESSED", "FAILED"), **ids)


def picture(red: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG of one color."""
    file = io.BytesIO()
    Image.new("RGB", size, (red % 256, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def documented(tenant: Tenant, seen: dict[tuple[str, str], str]) -> Documented:
    """An account's own client for the documented operations of data management."""
    return Documented(tenant.client, seen)


@pytest.fixture(scope="module")
def served(running: RunningPlatform) -> dict[str, Any]:
    """The platform's OpenAPI document."""
    found: dict[str, Any] = httpx.get(f"{running.url}/openapi.json", timeout=60).json()
    return found


@pytest.fixture(scope="module")
def checker(served: dict[str, Any]) -> Checker:
    return Checker(served)


@pytest.fixture(autouse=True)
def answers_are_as_described(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever the clients of a test are answered has the described types."""
    answered: list[requests.Response] = []
    send = requests.Session.send

    def watch(*arguments: Any, **named: Any) -> requests.Response:
        answered.append(send(*arguments, **named))
        return answered[-1]

    monkeypatch.setattr(requests.Session, "send", watch)
    yield
    assert [wrong for response in answered for wrong in checker.wrong(response)] == []


class Iam:
    """The official IAM client, signed in; ``iam.show_agency(agency_id=…)`` builds the request and calls it."""

    def __init__(self, recorded: Any) -> None:
        self._recorded = recorded

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        requests: Any = importlib.import_module("huaweicloudsdkiam.v3")
        request = getattr(requests, "".join(word.capitalize() for word in operation.split("_")) + "Request")
        return lambda **fields: getattr(self._recorded, operation)(request(**fields))

    def refused(self, status: int, code: str, operation: str, **fields: Any) -> str:
        """The message of the error, which has this status, code, and a request id."""
        errors: Any = importlib.import_module("huaweicloudsdkcore.exceptions.exceptions")
        with pytest.raises(errors.ServiceResponseException) as failure:
            getattr(self, operation)(**fields)
        error = failure.value
        assert (error.status_code, error.error_code) == (status, code), error
        assert error.request_id
        return str(error.error_msg)


@pytest.fixture
def iam_of(operations: Callable[[Any], Any], running: RunningPlatform) -> Callable[..., Iam]:
    """The official IAM client with the access key of a tenant (and a security token), or with a token."""

    def build(who: Tenant | str, security_token: str | None = None) -> Iam:
        v3: Any = importlib.import_module("huaweicloudsdkiam.v3")
        if isinstance(who, str):
            credentials: Any = importlib.import_module("huaweicloudsdkiam.v3.iam_credentials").IamCredentials(who)
        else:
            auth: Any = importlib.import_module("huaweicloudsdkcore.auth.credentials")
            credentials = auth.GlobalCredentials(who.access_key, who.secret_key, who.account_id)
            credentials.with_security_token(security_token)
        client = v3.IamClient.new_builder().with_credentials(credentials).with_endpoint(running.url).build()
        return Iam(operations(client))

    return build


@pytest.fixture
def iam(iam_of: Callable[..., Iam], tenant: Tenant) -> Iam:
    """The official IAM client of an account's own login."""
    return iam_of(tenant)


PASSED = pytest.StashKey[bool]()
COMPLETE = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write docs/conformance.md from what the tests saw")
    parser.addoption("--write-answers", action="store_true", help="write plugins' answers.json from the clients")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The comparison comes last, and is complete when every file of this folder is to run, whole."""
    items.sort(key=lambda item: item.path.name == "test_tables.py")
    chosen = config.getoption("keyword") or config.getoption("markexpr") or any("::" in a for a in config.args)
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    collected = {item.path.name for item in items if item.path.parent == Path(__file__).parent}
    config.stash[COMPLETE] = not chosen and here == collected


@pytest.fixture(params=TABLES, ids=lambda table: table.title)
def table(request: pytest.FixtureRequest) -> Table:
    found: Table = request.param
    if request.config.getoption("write_table", False):
        page = PAGE.read_text("utf-8")
        PAGE.write_text(page.replace(found.documented(page), found.text), "utf-8")
    return found


@pytest.fixture
def whole_run(request: pytest.FixtureRequest) -> bool:
    """Whether every conformance test of this folder has run before."""
    return request.config.stash.get(COMPLETE, False)


@pytest.fixture
def conformance_page() -> str:
    return PAGE.read_text("utf-8")
