"""Pictures, in the worker: reading them safely, measuring them."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from bottega_dataset.processing.work import Unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "BMP")
_MOST_PIXELS = 100_000_000


def decode(content: bytes) -> Image.Image:
    """A whole picture, upright as its EXIF data say, RGB (or L); `format` is that of the file.

    Raises Unreadable for what is no picture of the formats, is cut off, or is too large to unpack.
    """
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                opened.load()
                upright = ImageOps.exif_transpose(opened)
                found = upright if upright.mode in ("L", "RGB") else upright.convert("RGB")
                found.format = opened.format
                return found
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise Unreadable(f"it has more than {_MOST_PIXELS // 10**6} million pixels") from e
    except (OSError, ValueError, SyntaxError) as e:
        if content[:2] in (b"\xff\xd8", b"\x89P", b"BM"):
            raise Unreadable(f"the picture is broken or cut off ({str(e)[:100]})") from e
        raise Unreadable(f"it is no picture of the formats {', '.join(FORMATS)}") from e
    except Exception as e:  # a hostile file makes the library raise anything
        raise Unreadable(f"the picture cannot be decoded ({type(e).__name__}: {str(e)[:100]})") from e


def encode(image: Image.Image, format: str | None) -> tuple[bytes, str]:
    """A file of `format` (else PNG) and its suffix."""
    kind = format if format in FORMATS else "PNG"
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return out.getvalue(), {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp"}[kind]


def gray(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("L"), np.float64)


def sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian: low for blurred pictures. Of the picture as large as 512 pixels, to compare."""
    from scipy.ndimage import laplace

    small = image if max(image.size) <= 512 else ImageOps.contain(image, (512, 512))
    return float(laplace(gray(small)).var())


def colorfulness(image: Image.Image) -> float:
    """Hasler and Süsstrunk's measure: 0 gray, about 15 slightly, 45 moderately, 80 very colorful."""
    r, g, b = (np.asarray(band, np.float64) for band in image.convert("RGB").split())
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def color_cast(image: Image.Image) -> float:
    """How far the mean color is from gray, over how far the colors spread around it (CIE Lab); above 1.5: a cast."""
    small = image.convert("RGB")
    if max(small.size) > 256:
        small = ImageOps.contain(small, (256, 256))
    a, b = _lab_colors(np.asarray(small, np.float64) / 255)
    mean = float(np.hypot(a.mean(), b.mean()))
    spread = float(np.hypot(np.abs(a - a.mean()).mean(), np.abs(b - b.mean()).mean()))
    return mean / (spread + 1.0)


def _lab_colors(rgb: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The a and b of CIE Lab (D65) of sRGB values 0 to 1, shape (h, w, 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])
