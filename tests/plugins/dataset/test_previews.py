"""Small pictures of samples, as ``process_parameter`` asks for them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from bottega.client import ApiFailure, Client
from bottega.errors import Invalid
from bottega.testing import Tenant
from bottega_dataset.previews import Resize
from bottega_dataset.sample import BadSample


def image(size: tuple[int, int], form: str = "PNG", mode: str = "RGB", **saving: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, "red").save(out, form, **saving)
    return out.getvalue()


def size_of(address: str) -> tuple[int, int]:
    """Width and height of the picture in a ``data:`` address."""
    head, _, content = address.partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(content))) as opened:
        assert head == f"data:image/{(opened.format or '').lower()}"
        return opened.size


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ("image/resize,m_lfit,h_20", (40, 20)),
        ("image/resize,w_10", (10, 5)),
        ("image/resize,m_lfit,w_30,h_30", (30, 15)),
        ("image/resize,m_mfit,w_30,h_30", (60, 30)),
        ("image/resize,m_fill,w_30,h_30", (30, 30)),
        ("image/resize,m_pad,w_30,h_30", (30, 30)),
        ("image/resize,m_fixed,w_7,h_30", (7, 30)),
        ("image/resize,l_50", (50, 25)),
        ("image/resize,s_20", (40, 20)),
        ("image/resize,p_50", (50, 25)),
        ("image/resize,h_100", (100, 50)),
        ("image/resize,h_100,limit_0", (200, 100)),
    ],
)
def test_a_picture_gets_the_size_that_is_asked_for(asked: str, size: tuple[int, int]) -> None:
    resize = Resize.of(asked)
    assert resize is not None
    kind, drawn = resize.apply(image((100, 50)), "a.png")
    with Image.open(io.BytesIO(drawn)) as opened:
        assert (kind, opened.size) == ("image/jpeg", size)


def test_a_picture_stands_as_people_see_it() -> None:
    resize = Resize.of("image/resize,h_20")
    assert resize is not None
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    _, drawn = resize.apply(image((100, 50), "JPEG", exif=exif), "a.jpg")
    assert Image.open(io.BytesIO(drawn)).size == (10, 20)
    kind, clear = resize.apply(image((100, 50), mode="RGBA"), "a.png")
    assert (kind, Image.open(io.BytesIO(clear)).mode) == ("image/png", "RGBA")
    for bad in (image((100, 50))[:60], b"no picture"):
        with pytest.raises(BadSample):
            resize.apply(bad, "a.png")


@pytest.mark.parametrize("asked", ["image/blur,r_3", "image/resize", "image/resize,m_lfit", "image/resize,h_0", "h_2"])
def test_what_is_no_resizing_is_refused(asked: str) -> None:
    with pytest.raises(Invalid, match="must look like image/resize,m_lfit,h_200"):
        Resize.of(asked)


def test_a_list_of_samples_has_small_pictures(
    tenant: Tenant, client: Client, bucket: str, make: Callable[..., str], one: Callable[[str], str]
) -> None:
    whole = image((100, 50))
    tenant.objects.put_many({f"s3://{bucket}/in/a.png": whole, f"s3://{bucket}/in/b.png": whole[:60]})
    where = f"{one(make(data_path=f's3://{bucket}/in/'))}/data-annotations/samples"
    query = {"process_parameter": "image/resize,m_lfit,h_20", "order": "asc"}
    small, broken = (sample["preview_url"] for sample in client.get(where, query)["samples"])
    assert size_of(small) == (40, 20)
    assert broken.startswith("http"), "what cannot be resized is shown as it is"
    with pytest.raises(ApiFailure, match="must look like image/resize"):
        client.get(where, {"process_parameter": "image/blur"})
    names = [f"s3://{bucket}/many/{n}.png" for n in range(101)]
    tenant.objects.put_many(dict.fromkeys(names, whole))
    many = f"{one(make('many', data_path=f's3://{bucket}/many/'))}/data-annotations/samples"
    with pytest.raises(ApiFailure, match="at most 100 samples at once"):
        client.get(many, query | {"limit": 101})
