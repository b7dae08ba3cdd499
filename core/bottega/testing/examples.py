"""The least that fits a JSON Schema as pydantic writes them."""

from __future__ import annotations

import uuid
from typing import Any


def example(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """Something that fits; texts in it are ids that name nothing that exists."""
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for chosen in ("const", "default"):
        if chosen in schema:
            return schema[chosen]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return None if {"type": "null"} in schema[choice] else example(schema[choice][0], definitions)
    if schema.get("type") == "object":
        required = schema.get("required", ())
        return {name: example(schema["properties"][name], definitions) for name in required}
    return {"integer": 1, "number": 1.0, "boolean": True, "array": [], "null": None}.get(
        schema.get("type", ""), str(uuid.uuid4())
    )
