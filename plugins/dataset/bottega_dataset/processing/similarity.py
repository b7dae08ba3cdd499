"""Which samples are the same, or nearly so."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bottega_dataset.processing import audio, images, texts
from bottega_dataset.processing.processors import AUDIO, IMAGE, TEXT
from bottega_dataset.processing.work import Item, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_SHINGLE = 5
_PERMUTATIONS = 128
_FRAMES, _BANDS = 32, 33


@dataclass(frozen=True, slots=True)
class Double:
    """`item` is like `of`, which comes first in the order that was asked for. `how` says how; 1 is the same."""

    item: Item
    of: Item
    how: str
    likeness: float


def exact(work: Work, order: Sequence[Item]) -> list[Double]:
    """Samples with the same content: pixels of pictures, values of sounds, the words of texts, bytes of all else."""
    first: dict[bytes, Item] = {}
    found = []
    for item, digest in work.read(_digest(work.sample_type), order):
        if (of := first.setdefault(digest, item)) is not item:
            found.append(Double(item, of, "the same content", 1.0))
    return found


def near(work: Work, order: Sequence[Item], likeness: float) -> list[Double]:
    """Samples at least so like an earlier one that is not itself a double (1: the same)."""
    if work.sample_type == IMAGE:
        return list(_by_bits(work.read(image_hash, order), likeness, "nearly the same picture"))
    if work.sample_type == AUDIO:
        return list(_by_bits(work.read(fingerprint, order), likeness, "nearly the same sound"))
    if work.sample_type == TEXT:
        return list(_texts(work.read(texts.decode, order), likeness))
    return []


def image_hash(content: bytes) -> NDArray[np.uint8]:
    """64 bits of pHash and 64 of dHash, packed: pHash alone takes small things on one background for the same."""
    return picture_hash(images.decode(content))


def picture_hash(image: Image) -> NDArray[np.uint8]:
    import imagehash

    bits = np.concatenate([imagehash.phash(image).hash.ravel(), imagehash.dhash(image).hash.ravel()])
    return np.packbits(bits)


def fingerprint(content: bytes) -> NDArray[np.uint8]:
    """Where a sound's energy grows from frame to frame and band to band (Haitsma and Kalker), in 32 × 32 bits."""
    sound = audio.decode(content)
    from scipy.signal import spectrogram

    size = max(64, min(2048, len(sound.samples) // 8))
    _, _, power = spectrogram(sound.mono, sound.rate, nperseg=size, noverlap=size // 2)
    edges = np.unique(np.geomspace(1, power.shape[0], _BANDS + 1).astype(int))
    bands = np.array([power[a:b].sum(0) for a, b in itertools.pairwise(edges) if b > a])
    bands = np.log(bands + 1e-12)
    rows = np.linspace(0, len(bands) - 1, _BANDS)
    at = np.linspace(0, bands.shape[1] - 1, _FRAMES + 1)
    grid = np.array([np.interp(at, np.arange(bands.shape[1]), bands[round(row)]) for row in rows])
    change = np.diff(np.diff(grid, axis=0), axis=1)
    return np.packbits(change > 0)


def _digest(sample_type: int) -> Any:
    def digest(content: bytes) -> bytes:
        if sample_type == IMAGE:
            image = images.decode(content)
            told = f"{image.size}{image.mode}".encode() + image.tobytes()
        elif sample_type == AUDIO:
            sound = audio.decode(content)
            told = f"{sound.rate}".encode() + sound.samples.tobytes()
        elif sample_type == TEXT:
            told = texts.plain(texts.decode(content)).encode()
        else:
            told = content
        return hashlib.blake2b(told, digest_size=16).digest()

    return digest


def _by_bits(prints: Iterable[tuple[Item, NDArray[np.uint8]]], likeness: float, how: str) -> Iterator[Double]:
    kept: list[Item] = []
    matrix = np.zeros((0, 0), np.uint64)
    for item, packed in prints:
        bits = np.frombuffer(packed.tobytes().ljust(-(-len(packed) // 8) * 8, b"\0"), np.uint64)
        if not kept:
            matrix = np.zeros((1024, len(bits)), np.uint64)
        else:
            distance = np.bitwise_count(matrix[: len(kept)] ^ bits).sum(1)
            best = int(distance.argmin())
            like = 1 - float(distance[best]) / (8 * len(packed))
            if like >= likeness:
                yield Double(item, kept[best], how, round(like, 4))
                continue
        if len(kept) == len(matrix):
            matrix = np.concatenate([matrix, np.zeros_like(matrix)])
        matrix[len(kept)] = bits
        kept.append(item)


def _texts(found: Iterable[tuple[Item, str]], likeness: float) -> Iterator[Double]:
    """By MinHash (datasketch), each candidate then compared shingle by shingle (Jaccard)."""
    from datasketch import MinHash, MinHashLSH

    # The index asks for less than is wanted: it may miss what lies near its threshold, and the comparison decides.
    index = MinHashLSH(threshold=max(0.1, likeness - 0.2), num_perm=_PERMUTATIONS)
    kept: dict[int, tuple[Item, frozenset[str]]] = {}
    for number, (item, text) in enumerate(found):
        shingles = _shingles(text)
        sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
        sketch.update_batch([one.encode() for one in shingles])
        best: tuple[float, Item] | None = None
        for candidate in sorted(index.query(sketch)):
            other, theirs = kept[candidate]
            like = len(shingles & theirs) / len(shingles | theirs)
            if like >= likeness and (best is None or like > best[0]):
                best = like, other
        if best is not None:
            yield Double(item, best[1], "nearly the same text", round(best[0], 4))
            continue
        index.insert(number, sketch)
        kept[number] = item, shingles


def _shingles(text: str) -> frozenset[str]:
    whole = texts.plain(text)
    return frozenset(whole[at : at + _SHINGLE] for at in range(max(1, len(whole) - _SHINGLE + 1)))
