"""The events of an installation as an AsyncAPI 3.0 document, and the JSON Schema of each."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from bottega.events import Event

_REFERENCE = "#/components/schemas/{model}"
_TEXT = {"type": "string"}
ENVELOPE: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0, structured JSON",
    "required": ["specversion", "id", "type", "source", "subject", "time", "correlationid", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {**_TEXT, "description": "UUIDv7; also the message id, by which a repeated event is known"},
        "type": {**_TEXT, "description": "<plugin>.<entity>.<verb>.v<N>"},
        "source": {**_TEXT, "description": "/plugins/<plugin>"},
        "subject": {**_TEXT, "description": "URN of the thing the event is about"},
        "time": {**_TEXT, "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "correlationid": {**_TEXT, "description": "the same for everything that follows from one request"},
        "causationid": {**_TEXT, "description": "id of the event whose handling caused this one"},
        "authtype": {**_TEXT, "description": "kind of the actor: user, agency or system"},
        "authid": {**_TEXT, "description": "who acted"},
        "traceparent": {**_TEXT, "description": "W3C trace context"},
        "data": {"type": "object"},
    },
}


def document(events: Iterable[type[Event]], version: str) -> dict[str, Any]:
    """The AsyncAPI document of these event classes: a channel, an operation and a message for each type."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {"envelope": ENVELOPE}
    for event in sorted(events, key=lambda e: e.type):
        data = event.model_json_schema(ref_template=_REFERENCE, mode="serialization")
        schemas.update(data.pop("$defs", {}))
        channels[event.type] = {
            "address": f"evt.{{project}}.{event.type}",
            "parameters": {"project": {"description": "id of the project the thing belongs to"}},
            "messages": {event.type: {"$ref": f"#/components/messages/{event.type}"}},
        }
        operations[event.type] = {"action": "send", "channel": {"$ref": f"#/channels/{event.type}"}}
        messages[event.type] = {
            "name": event.type,
            "title": event.__name__,
            "summary": (inspect.getdoc(event) or "").partition("\n\n")[0].replace("\n", " "),
            "contentType": "application/cloudevents+json",
            "payload": _payload(event.type, {"$ref": _REFERENCE.format(model="envelope")}, data),
        }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Bottega events", "version": version},
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def schema(event: type[Event]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one event as it travels, envelope included."""
    data = event.model_json_schema(mode="serialization")
    shared = data.pop("$defs", {})
    found = _payload(event.type, ENVELOPE, data)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, **({"$defs": shared} if shared else {})}


def _payload(type: str, envelope: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    return {"allOf": [envelope, {"properties": {"type": {"const": type}, "data": data}}]}
