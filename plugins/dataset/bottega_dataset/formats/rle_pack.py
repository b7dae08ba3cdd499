"""The run lengths of Label Studio's brush: thi.ng's ``rle-pack`` of an RGBA image, in which the alpha is the mask.

32 bits: number of words; 5: bits a word, less 1; four times 4: bits of a count, less 1. Then runs: 1 bit (1: one word
repeated, 0: words as they are), 2 bits (which of the four sizes), the count less 1, the word or words.
"""

from __future__ import annotations

from bottega_dataset.sample import BadSample

MOST_PIXELS = 1 << 24
_COUNT_BITS = (3, 4, 8, 16)
_CHANNELS = 4


def unpack(data: list[int], width: int, height: int) -> bytes:
    """The mask's pixels, 0 or 1, row after row. Raises BadSample."""
    if not 0 < width * height <= MOST_PIXELS:
        raise BadSample(f"a brush mask has 1 to {MOST_PIXELS:,} pixels, not {width} x {height}")
    try:
        bits = _Bits(bytes(data))
    except (TypeError, ValueError) as e:
        raise BadSample("rle must be a list of bytes") from e
    total, word, sizes = bits.take(32), bits.take(5) + 1, [bits.take(4) + 1 for _ in _COUNT_BITS]
    if total != width * height * _CHANNELS or word != 8:
        raise BadSample(f"rle has {total} words of {word} bits; an image of {width} x {height} has 4 bytes a pixel")
    out = bytearray()
    while len(out) < total:
        repeated = bits.take(1)
        count = bits.take(sizes[bits.take(2)]) + 1
        if len(out) + count > total:
            raise BadSample("rle has more words than it says")
        out += bytes([bits.take(8)]) * count if repeated else bytes(bits.take(8) for _ in range(count))
    return bytes(1 if alpha else 0 for alpha in out[_CHANNELS - 1 :: _CHANNELS])


def pack(runs: list[int]) -> list[int]:
    """:param runs: of pixels row after row, beginning with those that are 0."""
    total = sum(runs) * _CHANNELS
    parts = [f"{total:032b}{7:05b}", *(f"{size - 1:04b}" for size in _COUNT_BITS)]
    for index, run in enumerate(runs):
        left = run * _CHANNELS
        word = "11111111" if index % 2 else "00000000"
        while left:
            count = min(left, 1 << _COUNT_BITS[-1])
            which = next(n for n, size in enumerate(_COUNT_BITS) if count <= 1 << size)
            parts.append(f"1{which:02b}{count - 1:0{_COUNT_BITS[which]}b}{word}")
            left -= count
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


class _Bits:
    """Bits, the most significant of a byte first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> int:
        first, last = self._at // 8, (self._at + count + 7) // 8
        if last > len(self._data):
            raise BadSample("rle ends in the middle")
        self._at += count
        spare = last * 8 - self._at
        return (int.from_bytes(self._data[first:last], "big") >> spare) & ((1 << count) - 1)
