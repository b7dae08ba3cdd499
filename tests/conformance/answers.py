"""What the platform's routes answer to the vendor's clients, described by the models of these clients.

Each plugin that serves operations of a client has an ``answers.json``, which types its answers in ``/openapi.json``:
``pytest tests/conformance --write-answers`` writes it from the installed clients, for the routes that there are.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from bottega.answers import Answers

from .reference import shape

CLIENTS = {
    "iam": "huaweicloudsdkiam.v3.IamClient",
    "cts": "huaweicloudsdkcts.v3.CtsClient",
    "smn": "huaweicloudsdksmn.v2.SmnClient",
    "kps": "huaweicloudsdkkps.v3.KpsClient",
    "modelarts": "huaweicloudsdkmodelarts.v1.ModelArtsClient",
}
PLUGINS = Path(__file__).parents[2] / "plugins"
HOMES = {
    name: PLUGINS / "billing_iam" / "bottega_billing_iam" / name for name in ("iam", "quota", "audit", "notify")
} | {name: PLUGINS / name / f"bottega_{name}" for name in ("notebook", "training", "serving")}
"""Where the plugins that serve operations of the clients keep their description."""
_PLAIN: dict[str, dict[str, Any]] = {
    "str": {"type": ["string", "null"]},
    "int": {"type": ["integer", "null"]},
    "float": {"type": ["number", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "datetime": {"type": ["string", "null"]},
    "date": {"type": ["string", "null"]},
    "object": {},
}


@dataclass
class Client:
    """An installed client: the shape of each operation with its answer's model, and the models as JSON schemas."""

    title: str
    operations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _headers: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, _, name = CLIENTS[self.title].rpartition(".")
        self._models: Any = importlib.import_module(module)
        for attribute, method in vars(getattr(self._models, name)).items():
            if re.fullmatch(r"_\w+_http_info", attribute):
                source = inspect.getsource(method.__func__)
                call, path, model = (
                    re.search(rf'"{key}": "(.*?)"', source)[1]  # type: ignore[index]  # each has all three
                    for key in ("method", "resource_path", "response_type")
                )
                self.operations[shape(call, path)].append(model)
                self._headers[model] = re.findall(r'"([\w-]+)"', re.findall(r"response_headers = \[(.*?)\]", source)[0])

    def schema(self, model: str) -> dict[str, Any]:
        """The schema of the body of an answer, or of what is in one; fields in headers are left out."""
        cls = getattr(self._models, model)
        fields = {
            cls.attribute_map[name]: self._typed(kind)
            for name, kind in cls.openapi_types.items()
            if cls.attribute_map[name] not in self._headers.get(model, ())
        }
        if list(fields) == ["body"]:
            return fields["body"]
        return {"type": "object", "properties": fields} if hasattr(cls, "openapi_types") else {}

    def _typed(self, kind: str) -> dict[str, Any]:
        if kind in _PLAIN:
            return _PLAIN[kind]
        if listed := re.fullmatch(r"list\[(.+)\]", kind):
            return {"type": ["array", "null"], "items": self._typed(listed[1])}
        if mapped := re.fullmatch(r"dict\(str, ?(.+)\)", kind):
            return {"type": ["object", "null"], "additionalProperties": self._typed(mapped[1])}
        return {"anyOf": [{"$ref": f"#/components/schemas/{self.title}.{kind}"}, {"type": "null"}]}


def described(served: Mapping[str, Any]) -> dict[str, Answers]:
    """By plugin, what the routes of an OpenAPI document answer to the clients."""
    clients = [Client(title) for title in CLIENTS]
    found: dict[str, Answers] = defaultdict(lambda: Answers(answers={}, schemas={}))
    for path, operations in sorted(served["paths"].items()):
        for method, operation in operations.items():
            for client in clients:
                for model in client.operations.get(shape(method, path), ()):
                    mine = found[operation["tags"][0]]
                    name = f"{client.title}.{model}"
                    names = mine.answers.setdefault(f"{method.upper()} {path}", [])
                    names += [name] if name not in names else []
                    _add(mine.schemas, client, model)
    return dict(found)


def _add(schemas: dict[str, dict[str, Any]], client: Client, model: str) -> None:
    if (name := f"{client.title}.{model}") not in schemas:
        schemas[name] = client.schema(model)
        for inner in named(schemas[name]):
            _add(schemas, client, inner.rpartition(".")[2])


def named(schema: Any) -> Iterator[str]:
    """The schemas that a schema refers to."""
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if key == "$ref":
            yield value
        elif isinstance(value, dict | list):
            yield from named(value)


class Checker:
    """Holds answers to the schemas of an OpenAPI document."""

    def __init__(self, served: Mapping[str, Any]) -> None:
        self._described: list[tuple[str, re.Pattern[str], Draft202012Validator]] = []
        for path, operations in sorted(served["paths"].items(), key=lambda one: one[0].count("{")):
            there = re.compile(re.sub(r"{\w+}", "[^/]+", path))
            for method, operation in operations.items():
                for status, answer in operation["responses"].items():
                    if status.startswith("2") and "content" in answer:
                        schema = answer["content"]["application/json"]["schema"]
                        whole = Draft202012Validator({**schema, "components": served["components"]})
                        self._described.append((method.upper(), there, whole))

    def wrong(self, response: requests.Response) -> Iterator[str]:
        """What of an answer is not as described; nothing of a refusal."""
        if not response.ok or not response.content:
            return
        path = str(urlsplit(response.request.url).path)
        for method, there, validator in self._described:
            if method == response.request.method and there.fullmatch(path):
                if error := best_match(validator.iter_errors(response.json())):
                    yield f"{method} {there.pattern}: {error.json_path}: {error.message}"
                return


def text(answers: Answers) -> str:
    """As the file has it: a line for each operation and each schema."""
    parts = [
        f'"{part}": {{\n' + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(rows.items())) + "\n}"
        for part, rows in (("answers", answers.answers), ("schemas", answers.schemas))
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"
