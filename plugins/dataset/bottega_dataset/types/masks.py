"""Masks of image segmentation: COCO's run lengths, and PNG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

from bottega.errors import Invalid
from bottega.objects import ObjectPath
from bottega_dataset.sample import BadSample
from bottega_dataset.types.geometry import MASK

MOST_PIXELS = 1 << 28
DRAWN = 255
"""Masks that fit in one picture."""
_LONGEST_RUN = 64
"""Bits; a count of more than these is no count."""


def check_mask(mask: Any, size: tuple[int, int] | None, where: str) -> None:
    """Raises BadSample when `mask` is neither a path of a PNG nor run lengths that fill an image of `size`."""
    place = f"{where}['{MASK}']"
    if isinstance(mask, str):
        try:
            ObjectPath.parse(mask, place)
        except Invalid as e:
            raise BadSample(e.message) from e
        if not mask.lower().endswith(".png"):
            raise BadSample(f"{place}: the file of a mask must be a .png")
        return
    height, width, counts = run_lengths(mask, place)
    if size is not None and (width, height) != size:
        raise BadSample(f"{place}: the mask has {width} x {height} pixels, the image {size[0]} x {size[1]}")
    if sum(counts) != height * width:
        raise BadSample(f"{place}: the counts add up to {sum(counts)} pixels, not to {width} x {height}")


def run_lengths(mask: Any, place: str) -> tuple[int, int, Sequence[int]]:
    """Height, width, and the counts of a mask in COCO's form, down each column: outside first, then inside, …

    ``{"size": [height, width], "counts": …}``, the counts a list or COCO's compressed text. Raises BadSample.
    """
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
        raise BadSample(f'{place} must be {{"size": [height, width], "counts": …}} or the path of a .png')
    if size[0] * size[1] > MOST_PIXELS:
        raise BadSample(f"{place}: a mask has at most {MOST_PIXELS} pixels")
    counts = mask.get("counts")
    if isinstance(counts, str):
        counts = _uncompressed(counts, place)
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        raise BadSample(f"{place}: counts must be a list of whole numbers, or COCO's compressed text")
    return size[0], size[1], counts


def _uncompressed(text: str, place: str) -> list[int]:
    """The counts in COCO's compressed text: 5 bits a character, each count less the one two before it."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _LONGEST_RUN:
            raise BadSample(f"{place}: counts is not COCO's compressed text")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise BadSample(f"{place}: counts ends in the middle of a number")
    return counts


def draw(masks: Sequence[Any]) -> bytes:
    """A PNG of masks in COCO's form of one size, the one at n in VOC's color n + 1; later ones cover earlier ones.

    What is no mask (None) is not drawn, but counted.
    """
    height = width = 0
    columns = bytearray()
    for color, mask in enumerate(masks, 1):
        if mask is None:
            continue
        height, width, counts = run_lengths(mask, MASK)
        if not columns:
            columns = bytearray(height * width)
        at = 0
        for index, count in enumerate(counts):
            if index % 2:
                columns[at : at + count] = bytes([color]) * count
            at += count
    rows = b"".join(b"\0" + bytes(columns[y::height]) for y in range(height))
    palette = b"".join(bytes(color_of(n)) for n in range(len(masks) + 1))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def color_of(number: int) -> tuple[int, int, int]:
    """PASCAL VOC's color map: red, green and blue of a number from 0 to 255."""
    red = green = blue = 0
    for place in range(8):
        red |= (number & 1) << (7 - place)
        green |= (number >> 1 & 1) << (7 - place)
        blue |= (number >> 2 & 1) << (7 - place)
        number >>= 3
    return red, green, blue
