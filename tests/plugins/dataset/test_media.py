"""What images and sounds are is read from their bytes; what lies or is broken is refused."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import wave
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bottega_dataset import media
from bottega_dataset.media import AudioInfo, ImageInfo
from bottega_dataset.sample import BadSample


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), orientation: int | None = None) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.effect_noise(size, 80).convert(mode).save(out, kind, **({"exif": exif} if orientation else {}))
    return out.getvalue()


def sound(frames: int = 8000, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, width, rate, frames, "NONE", ""))
        file.writeframes(b"\0" * frames * channels * width)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (picture("JPEG"), "a.jpg", ImageInfo("JPEG", 40, 30, 3)),
        (picture("JPEG", "L"), "a.JPEG", ImageInfo("JPEG", 40, 30, 1)),
        (picture("PNG", "RGBA"), "a.png", ImageInfo("PNG", 40, 30, 4)),
        (picture("PNG", "P"), "", ImageInfo("PNG", 40, 30, 3)),
        (picture("BMP"), "a.bmp", ImageInfo("BMP", 40, 30, 3)),
        (picture("JPEG", orientation=6), "a.jpg", ImageInfo("JPEG", 30, 40, 3, 6)),
        (picture("PNG", orientation=8), "a.png", ImageInfo("PNG", 30, 40, 3, 8)),
        (picture("JPEG", orientation=3), "a.jpg", ImageInfo("JPEG", 40, 30, 3, 3)),
        (picture("JPEG", orientation=99), "a.jpg", ImageInfo("JPEG", 40, 30, 3, 1)),
    ],
)
def test_the_size_of_an_image_is_as_people_see_it(data: bytes, name: str, expected: ImageInfo) -> None:
    assert media.image(data, name) == media.image(data, name, whole=False) == expected


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.png", "not an image of JPEG, PNG, BMP"),
        (b"GIF89a\1\0\1\0", "a.gif", "not an image of"),
        (picture("PNG"), "a.jpg", r"is PNG, not what its name ends with \(\.jpg\)"),
        (picture("JPEG")[:-200], "a.jpg", "truncated or broken"),
        (picture("PNG")[:200], "a.png", "truncated or broken"),
        (picture("BMP")[:-900], "a.bmp", "truncated or broken"),
        (bomb(30_000, 4_000), "a.png", "30000 x 4000 pixels; at most 89,478,485"),
        (bomb(2**31 - 1, 2**31 - 1), "a.png", "far too many pixels"),
    ],
)
def test_a_hostile_image_is_refused(data: bytes, name: str, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        media.image(data, name)


@pytest.mark.parametrize(
    ("data", "size", "expected"),
    [
        (sound(), None, AudioInfo(1.0, 8000, 1, 16)),
        (sound(4000, 16000, 2), None, AudioInfo(0.25, 16000, 2, 16)),
        (sound(8000, width=1)[:60], len(sound(8000, width=1)), AudioInfo(1.0, 8000, 1, 8)),
        (sound().replace(b"data\x80\x3e\0\0", b"data\xff\xff\xff\xff"), None, AudioInfo(1.0, 8000, 1, 16)),
        (sound().replace(b"data", b"LIST\3\0\0\0abc\0data"), None, AudioInfo(1.0, 8000, 1, 16)),
    ],
)
def test_the_length_of_a_sound_is_counted(data: bytes, size: int | None, expected: AudioInfo) -> None:
    assert media.audio(data, size=size) == expected


def header(at: int, value: bytes) -> bytes:
    """A sound whose header is changed from byte `at` on."""
    data = bytearray(sound())
    data[at : at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"RIFF", "does not begin with RIFF"),
        (b"ID3" + sound(), "does not begin with RIFF"),
        (sound()[:30], "truncated"),
        (sound()[:-10], "says 16000 bytes of sound, but 15990 are there"),
        (header(40, b"\0\0\0\x7f"), "bytes of sound, but 16000 are there"),
        (header(20, b"\x55\0"), "compressed"),
        (header(22, b"\0\0"), "0 channels"),
        (header(24, b"\0\0\0\0"), "0 values a second"),
        (header(24, b"\x44\xac\0\0"), "contradicts itself"),
        (header(32, b"\7\0"), "contradicts itself"),
        (header(36, b"junk"), "it has no data"),
        (header(12, b"junk"), "no format before its data"),
    ],
)
def test_a_sound_whose_header_lies_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        media.audio(data)


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from([picture("JPEG"), picture("PNG"), picture("BMP"), sound(300)]),
    cut=st.integers(0, 4000),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
)
def test_broken_media_only_ever_raise_bad_sample(data: bytes, cut: int, changes: list[tuple[int, int]]) -> None:
    broken = bytearray(data[: max(8, len(data) - cut)])
    for at, value in changes:
        broken[at % len(broken)] = value
    for probe in (media.image, media.audio):
        try:
            probe(bytes(broken))
        except BadSample as e:
            assert str(e)  # noqa: PT017


def test_pillow_is_not_imported_before_an_image_is_looked_at() -> None:
    code = "import sys, bottega_dataset.media; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
