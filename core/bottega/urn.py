"""Names of things: ``bottega:<plugin>:<project>:<kind>/<id>``, and ``obs:::object:<bucket>/<key>`` for storage.

The storage form is the vendor's five-part resource name (002 §10.3 and the OBS policies it refers to), so a
policy's ``obs:*:*:object:bucket/*`` matches it as written.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from bottega.errors import Invalid

PLATFORM = "_"
"""The project token of things that belong to no project."""


class Urn(NamedTuple):
    plugin: str
    project: str
    kind: str
    id: str

    def __str__(self) -> str:
        return f"bottega:{self.plugin}:{self.project}:{self.kind}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> Urn:
        """Split a URN. Raises Invalid when it does not have the form of the module docstring."""
        parts = text.split(":", 3)
        if len(parts) == 4 and parts[0] == "bottega" and "/" in parts[3]:
            kind, _, ident = parts[3].partition("/")
            if all((parts[1], parts[2], kind, ident)):
                return cls(parts[1], parts[2], kind, ident)
        raise Invalid(f"'{text}' is not a URN; the form is bottega:<plugin>:<project>:<kind>/<id>")


def object_urn(bucket: str, key: str = "") -> str:
    """The resource name of an object, or of a bucket when `key` is empty, as policies see it."""
    return f"obs:::object:{bucket}/{key}" if key else f"obs:::bucket:{bucket}"


def new_id() -> str:
    """A random identifier with dashes, as the vendor's training, notebook and service ids."""
    return str(uuid.uuid4())
