"""Whatever a file holds."""

from __future__ import annotations

import io
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bottega_dataset.processing import audio, images
from bottega_dataset.processing import augmentation_images as moving
from bottega_dataset.processing import augmentation_pixels as pixels
from bottega_dataset.processing.processors import IMAGE, TEXT
from bottega_dataset.processing.work import Unreadable as NotRead

from .conftest import png, tone


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["png", "jpg", "bmp", "wav", "junk"]),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
)
def test_whatever_a_file_holds_it_is_read_or_refused(kind: str, cut: int, flips: list[tuple[int, int]]) -> None:
    small = Image.new("RGB", (9, 7), (1, 200, 3))
    whole = {
        "png": png(small),
        "jpg": png(small, "JPEG"),
        "bmp": png(small, "BMP"),
        "wav": tone(seconds=0.02),
        "junk": bytes(range(256)),
    }[kind]
    content = bytearray(whole[: max(0, len(whole) - cut)])
    for at, value in flips:
        if at < len(content):
            content[at] = value
    for decode in (images.decode, audio.decode):
        with suppress(NotRead):
            decode(bytes(content))


def test_a_picture_is_read_upright() -> None:
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    assert images.decode(out.getvalue()).size == (20, 40)


def test_which_samples_an_operator_understands() -> None:
    assert [one for one in (moving.Flip(), pixels.Blur()) if one.fits(TEXT) or not one.fits(IMAGE)] == []
