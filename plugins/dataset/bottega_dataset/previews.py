"""Addresses at which people see samples: the object itself for a while, or a resized picture of it (``image/resize``).

``process_parameter`` is what object storage calls it: ``image/resize,m_lfit,h_200``. Stores that Bottega runs on do not
resize, so the platform does, and answers the picture itself as a ``data:`` address.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import anyio

from bottega.errors import ApiError, Invalid
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset import media
from bottega_dataset.entities import Sample
from bottega_dataset.sample import BadSample

MOST = 100
"""Pictures one answer may have resized."""
_EXPIRES_S = 900
_AT_ONCE = 8
_LARGEST = 64 * 2**20
_SIDES = ("w", "h", "l", "s")
_MODES = ("lfit", "mfit", "fill", "pad", "fixed")
_LONGEST = 4096
_FORM = "process_parameter '{}' must look like image/resize,m_lfit,h_200"


@dataclass(frozen=True, slots=True)
class Resize:
    """``image/resize``: modes ``m_lfit`` (within `w` x `h`), ``m_mfit`` (around it), ``m_fill`` (around it, its middle
    cut out), ``m_pad`` (within it, the rest white), ``m_fixed`` (to it exactly); `l` and `s` are the longer and the
    shorter side, `p` percent. Nothing is enlarged unless ``limit_0`` says so.
    """

    mode: str = "lfit"
    sides: Mapping[str, int] | None = None
    percent: int | None = None
    enlarge: bool = False

    @classmethod
    def of(cls, text: str | None) -> Resize | None:
        """Raises Invalid for what is no such parameter; None for none."""
        if not text:
            return None
        operation, *given = text.split(",")
        if operation.removeprefix("x-image-process=") != "image/resize" or not given:
            raise Invalid(_FORM.format(text))
        mode, enlarge, percent = "lfit", False, None
        sides: dict[str, int] = {}
        for one in given:
            key, _, value = one.strip().partition("_")
            if key == "m" and value in _MODES:
                mode = value
            elif key == "limit" and value in ("0", "1"):
                enlarge = value == "0"
            elif key in _SIDES and value.isdecimal() and 0 < int(value) <= _LONGEST:
                sides[key] = int(value)
            elif key == "p" and value.isdecimal() and 0 < int(value) <= 1000:
                percent = int(value)
            else:
                raise Invalid(f"{_FORM.format(text)}: '{one}' is none of m_, w_, h_, l_, s_ (1-{_LONGEST}), p_, limit_")
        if not sides and percent is None:
            raise Invalid(f"{_FORM.format(text)}: it says no size")
        return cls(mode, sides, percent, enlarge)

    def box(self, width: int, height: int) -> tuple[int, int]:
        """The size that is asked for of a picture of this one, which modes then fit it into."""
        if self.percent is not None:
            return max(1, width * self.percent // 100), max(1, height * self.percent // 100)
        sides = dict(self.sides or {})
        longer, shorter = ("w", "h") if width >= height else ("h", "w")
        for name, side in (("l", longer), ("s", shorter)):
            if name in sides:
                sides.setdefault(side, sides[name])
        # The other side follows.
        w = sides.get("w") or max(1, round(width * sides["h"] / height))
        h = sides.get("h") or max(1, round(height * sides["w"] / width))
        return min(w, _LONGEST), min(h, _LONGEST)

    def apply(self, data: bytes, name: str) -> tuple[str, bytes]:
        """The media type and the bytes of the resized picture. Raises BadSample. Blocks: call it off the loop."""
        info = media.image(data, name, whole=False)
        from PIL import Image, ImageOps

        box = self.box(info.width, info.height)
        with media.decoding(), Image.open(io.BytesIO(data), formats=media.IMAGE_FORMATS) as opened:
            try:
                if info.orientation == 1:
                    opened.draft(None, box)  # a JPEG is decoded no larger than it has to be
                image: Image.Image = ImageOps.exif_transpose(opened)
                image = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
            except Exception as e:  # a decoder given hostile bytes may fail in any way
                raise BadSample(f"the image is truncated or broken: {e}") from e
            if not self.enlarge and box[0] >= info.width and box[1] >= info.height:
                box = (info.width, info.height)
            match self.mode:
                case "fixed":
                    image = image.resize(box)
                case "fill":
                    image = ImageOps.fit(image, box)
                case "pad":
                    image = ImageOps.pad(image, box, color="white")
                case "mfit":
                    image = ImageOps.cover(image, box)
                case _:
                    image = ImageOps.contain(image, box)
            out = io.BytesIO()
            form = "PNG" if image.mode == "RGBA" else "JPEG"
            image.save(out, form, quality=85)
        return f"image/{form.lower()}", out.getvalue()


def object_of(source: str) -> ObjectPath | None:
    """The object a preview shows; None for a text and for what lies elsewhere."""
    if not source.startswith("s3://"):
        return None
    bucket, _, key = source[5:].partition("/")
    return ObjectPath(bucket, key)


async def addresses(
    store: ObjectStore, paths: Sequence[ObjectPath | None], resize: Resize | None = None
) -> list[str | None]:
    """Where each object can be seen by whoever has the address; what cannot be resized is shown as it is.

    Raises Invalid when more than `MOST` were to be resized.
    """
    found = [store.presign("GET", path, _EXPIRES_S) if path else None for path in paths]
    if resize is None:
        return found
    if len(paths) > MOST:
        raise Invalid(f"process_parameter is for at most {MOST} samples at once; ask for pages of that size")
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def draw(index: int, path: ObjectPath) -> None:
        async with limit:
            try:
                if (await store.head(path)).size > _LARGEST:
                    return
                data = await store.get(path)
                kind, drawn = await media.off_loop(lambda: resize.apply(data, path.name))
            except (BadSample, ApiError):
                return
            found[index] = f"data:{kind};base64,{base64.b64encode(drawn).decode()}"

    async with anyio.create_task_group() as group:
        for index, path in enumerate(paths):
            if path and PurePosixPath(path.key).suffix.lower() in media.SUFFIXES:
                group.start_soon(draw, index, path)
    return found


async def show(
    store: ObjectStore, shown: Sequence[dict[str, Any]], rows: Sequence[Sample], resize: Resize | None = None
) -> None:
    """Give samples, as the API shows them, their ``preview_url``."""
    found = await addresses(store, [object_of(row.source) for row in rows], resize)
    for one, address in zip(shown, found, strict=True):
        if address:
            one["preview_url"] = address
