"""The models of what routes answer in ``/openapi.json``, read from a plugin's description instead of from its code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, model_validator

from bottega.plugins import Plugins

__all__ = ["Answers", "describe", "read"]


class Answers(BaseModel):
    """What the routes of a plugin answer; the file that ``bottega_answers`` names, in JSON.

    `answers` has the names of one or several schemas for an operation (``GET /v3/users``; of several, an answer is as
    any one says), `schemas` the JSON schemas by name. They refer to each other with ``#/components/schemas/<name>``.
    """

    answers: dict[str, list[str]]
    schemas: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _all_are_there(self) -> Answers:
        for operation, names in self.answers.items():
            if missing := set(names) - self.schemas.keys():
                raise ValueError(f"{operation}: there is no schema '{min(missing)}'")
        return self


def read(plugins: Plugins) -> list[Answers]:
    """What plugins describe. One whose description cannot be read, or names schemas it does not have, is broken."""
    found = []
    for plugin, path in plugins.collect("bottega_answers", lambda _: {}):
        with plugins.boundary(plugin, "bottega_answers"):
            found.append(Answers.model_validate_json(Path(path).read_bytes()))
    return found


def describe(document: dict[str, Any], described: Iterable[Answers]) -> None:
    """Give the operations of an OpenAPI `document` the answers that are described."""
    schemas = document["components"].setdefault("schemas", {})
    for one in described:
        schemas.update(one.schemas)
        for operation, names in one.answers.items():
            method, _, route = operation.partition(" ")
            if found := document["paths"].get(route, {}).get(method.lower()):
                _type(found["responses"], names)


def _type(responses: dict[str, Any], names: list[str]) -> None:
    models = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    schema = models[0] if len(models) == 1 else {"anyOf": models}
    for status, response in responses.items():
        if status.startswith("2") and "content" in response:
            response["content"] = {"application/json": {"schema": schema}}
