"""What images and sounds are: their size, read from their bytes, whatever their name says of them.

Nothing here trusts a file. Sizes come from headers, and are refused before anything is decoded that would not fit in
memory; Pillow is asked only for the formats a dataset may hold. Both functions block: call them through `off_loop`.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from bottega.errors import Invalid
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset.sample import BadSample

if TYPE_CHECKING:
    from PIL import Image

IMAGE_FORMATS = ("JPEG", "PNG", "BMP")
"""What datasets of images hold (002 §2.3.2.1), in Pillow's words."""
MAX_PIXELS = 89_478_485
"""Pillow's own bound: a quarter of a gigabyte once decoded."""
SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_HEAD = 64 * 1024
_MAX_OBJECT = 64 * 2**20
_DECODING = threading.BoundedSemaphore(2)
_PCM, _FLOAT, _ALAW, _ULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_UNKNOWN_SIZE = (0, 0xFFFFFFFF)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """`width` and `height` in pixels as people see the image: turned as its EXIF `orientation` (1-8) says.

    `depth` is its number of channels, as in VOC: 1 grey, 3 color, 4 with transparency.
    """

    format: str
    width: int
    height: int
    depth: int
    orientation: int = 1


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """`seconds` as counted in the bytes that are there; `bits` a value of one channel."""

    seconds: float
    rate: int
    channels: int
    bits: int


def image(data: bytes, name: str = "", *, whole: bool = True, formats: tuple[str, ...] = IMAGE_FORMATS) -> ImageInfo:
    """What an image is.

    :param name: the file's, to refuse a suffix that lies about the format.
    :param whole: also decode it, so that a truncated or broken file is found; else `data` may be its beginning.

    Raises BadSample: no image of `formats`, another one than its suffix says, too many pixels, truncated; and Invalid
    where Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as e:
        raise Invalid("images cannot be looked into here: the operator installs Pillow, with bottega[formats]") from e
    try:
        with Image.open(io.BytesIO(data), formats=formats) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadSample(_too_large(f"{opened.width} x {opened.height} pixels"))
            info = _described(opened)
            _check_suffix(info, name)
            if whole:
                with _DECODING:
                    # JPEG decodes to an eighth of its size: the whole file is read, little of it is kept.
                    opened.draft(None, (opened.width // 8 or 1, opened.height // 8 or 1))
                    opened.load()
            return info
    except BadSample:
        raise
    except UnidentifiedImageError as e:
        raise BadSample(f"not an image of {', '.join(formats)}") from e
    except Image.DecompressionBombError as e:
        raise BadSample(_too_large("far too many pixels")) from e
    except Exception as e:  # a decoder given hostile bytes may fail in any way
        raise BadSample(f"the image is truncated or broken: {e}") from e


def audio(data: bytes, *, size: int | None = None) -> AudioInfo:
    """What a WAV sound is.

    :param size: bytes of the whole file, where `data` is only its beginning.

    Raises BadSample: no WAV, or its header says what the file is not.
    """
    size = len(data) if size is None else size
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise BadSample("not a WAV sound: it does not begin with RIFF…WAVE")
    declared = None
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"fmt ":
            declared = _wave_format(data[at : at + length])
        elif kind == b"data":
            if declared is None:
                raise BadSample("the WAV header has no format before its data")
            return _wave_length(declared, length, size - at)
        at += length + length % 2
    raise BadSample("the WAV sound is truncated: it has no data")


def decoding() -> threading.BoundedSemaphore:
    """To be held while an image is decoded: so many at once fit in memory."""
    return _DECODING


async def off_loop(probe: Callable[[], T]) -> T:
    """Run a probe in a thread; it must not hold up the event loop."""
    return await anyio.to_thread.run_sync(probe)


async def image_at(store: ObjectStore, path: ObjectPath) -> ImageInfo:
    """What an image in storage is, from its first bytes where they tell it. Raises BadSample, NotFound."""
    size, head = await _head(store, path)
    try:
        return await off_loop(lambda: image(head, path.name, whole=False))
    except BadSample:
        if not len(head) < size <= _MAX_OBJECT:
            raise
    data = await store.get(path)  # a preview or color profile may stand before the size
    return await off_loop(lambda: image(data, path.name, whole=False))


async def audio_at(store: ObjectStore, path: ObjectPath) -> AudioInfo:
    """What a sound in storage is, from its first bytes. Raises BadSample, NotFound."""
    size, head = await _head(store, path)
    return audio(head, size=size)


async def _head(store: ObjectStore, path: ObjectPath) -> tuple[int, bytes]:
    """An object's size and its first bytes."""
    info = await store.head(path)
    if not info.size:
        raise BadSample("the file is empty")
    return info.size, await store.get(path, 0, min(_HEAD, info.size) - 1)


def _described(opened: Image.Image) -> ImageInfo:
    try:
        # Asked for EXIF that is not in its header, a PNG would be decoded in search of it.
        has_exif = opened.format != "PNG" or "exif" in opened.info
        orientation = int(opened.getexif().get(_ORIENTATION, 1)) if has_exif else 1
    except Exception:  # EXIF is a file format of its own; without one the image stands as it is
        orientation = 1
    width, height = opened.size
    if orientation in _TURNED:
        width, height = height, width
    depth = 3 if opened.mode == "P" else len(opened.getbands())
    found = "JPEG" if opened.format == "MPO" else opened.format or ""
    return ImageInfo(found, width, height, depth, orientation if 1 <= orientation <= 8 else 1)


def _check_suffix(info: ImageInfo, name: str) -> None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix and SUFFIXES.get(suffix) != info.format:
        raise BadSample(f"the image is {info.format}, not what its name ends with ({suffix})")


def _too_large(size: str) -> str:
    return f"the image has {size}; at most {MAX_PIXELS:,} are decoded"


def _wave_format(fields: bytes) -> AudioInfo:
    if len(fields) < 16:
        raise BadSample("the WAV header is truncated")
    code, channels, rate, byte_rate, align, bits = struct.unpack_from("<HHIIHH", fields)
    if code == _EXTENSIBLE and len(fields) >= 26:
        code = struct.unpack_from("<H", fields, 24)[0]
    if code not in (_PCM, _FLOAT, _ALAW, _ULAW):
        raise BadSample(f"the WAV sound is compressed (format {code}); use PCM")
    if not channels or not rate or not bits:
        raise BadSample(f"the WAV header says {channels} channels, {rate} values a second, {bits} bits")
    if align != channels * ((bits + 7) // 8) or byte_rate != rate * align:
        raise BadSample(
            f"the WAV header contradicts itself: {channels} channels of {bits} bits, {rate} a second, "
            f"but blocks of {align} and {byte_rate} bytes a second"
        )
    return AudioInfo(0.0, rate, channels, bits)


def _wave_length(declared: AudioInfo, length: int, there: int) -> AudioInfo:
    if length in _UNKNOWN_SIZE and there:  # written by a program that could not go back to the header
        length = there
    if length > there:
        raise BadSample(f"the WAV header says {length} bytes of sound, but {there} are there")
    frame = declared.channels * ((declared.bits + 7) // 8)
    return AudioInfo(length // frame / declared.rate, declared.rate, declared.channels, declared.bits)
