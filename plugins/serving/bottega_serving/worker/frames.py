"""What the data plane and a worker say to each other over their socket.

A frame is a number of items, each a text and bytes. Data plane to worker: first one item with the model's
description, then batches of requests (content type, body). Worker to data plane: first one item that says it is
ready, then for each batch the answers (``200``, JSON) or errors (``400``, JSON with `code` and `message`). Neither
side trusts the other's bytes: lengths are bounded, and nothing is unpickled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

Item = tuple[str, bytes]
_COUNT = struct.Struct("!I")
_ITEM = struct.Struct("!HI")
MAX_ITEMS = 4096
MAX_BODY = 1 << 30


class BrokenFrame(Exception):
    """The other side does not keep to the protocol."""


def pack(items: Sequence[Item]) -> bytes:
    parts = [_COUNT.pack(len(items))]
    for text, body in items:
        encoded = text.encode()
        parts += [_ITEM.pack(len(encoded), len(body)), encoded, body]
    return b"".join(parts)


def unpack_count(head: bytes) -> int:
    (count,) = _COUNT.unpack(head)
    if count > MAX_ITEMS:
        raise BrokenFrame(f"a frame of {count} items")
    return int(count)


def unpack_sizes(head: bytes) -> tuple[int, int]:
    text, body = _ITEM.unpack(head)
    if body > MAX_BODY:
        raise BrokenFrame(f"an item of {body} bytes")
    return int(text), int(body)


def read(receive: Callable[[int], bytes]) -> list[Item] | None:
    """One frame; `receive(n)` gives exactly `n` bytes, or fewer at the end. None when the other side has closed."""
    head = receive(_COUNT.size)
    if len(head) < _COUNT.size:
        return None
    items = []
    for _ in range(unpack_count(head)):
        text_size, body_size = unpack_sizes(receive(_ITEM.size))
        items.append((receive(text_size).decode(), receive(body_size)))
    return items


HEAD = _COUNT.size
ITEM_HEAD = _ITEM.size
