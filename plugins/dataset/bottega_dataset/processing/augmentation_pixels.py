"""Augmentation of pictures, by the vendor's operators and parameters: those that change values, and move nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.augmentation_images import AugmentationParams, ImageOperator, Made
from bottega_dataset.processing.processors import Processor

if TYPE_CHECKING:
    from numpy.random import Generator
    from PIL.Image import Image


class NoiseParams(AugmentationParams):
    noise_type: Literal["Gauss", "Laplace", "Poisson", "Impulse", "SaltAndPepper"] = "Gauss"
    loc: float = Field(0, ge=-255, le=255)
    scale: float = Field(10, ge=0, le=255)
    """Standard deviation of Gauss and Laplace noise, of values from 0 to 255."""
    lam: float = Field(2, ge=0, le=255)
    p: float = Field(0.01, ge=0, le=1)
    """The part of the pixels that Impulse and SaltAndPepper noise hits."""


class AddNoise(ImageOperator):
    id, name, description = "AddNoise", "Noise", "Adds the noise of a camera to pictures."
    params = NoiseParams

    def make(self, image: Image, draw: Generator, params: NoiseParams) -> Made:
        import numpy as np

        values = np.asarray(image, np.float64)
        kind = params.noise_type
        if kind == "Gauss":
            values = values + draw.normal(params.loc, params.scale, values.shape)
        elif kind == "Laplace":
            values = values + draw.laplace(params.loc, params.scale / np.sqrt(2), values.shape)
        elif kind == "Poisson":
            values = values + draw.poisson(params.lam, values.shape) - params.lam
        else:
            shape = values.shape if kind == "Impulse" else values.shape[:2]
            hit, white = draw.random(shape) < params.p, draw.random(shape) < 0.5
            if kind == "SaltAndPepper" and values.ndim == 3:
                hit, white = hit[..., None], white[..., None]
            values = np.where(hit, np.where(white, 255.0, 0.0), values)
        return Made(_image(values), f"{kind} noise added")


def _image(values: Any) -> Image:
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


class BlurParams(AugmentationParams):
    blur_type: Literal["Gauss", "Average"] = "Gauss"
    radius_max: float = Field(2, gt=0, le=50)


class Blur(ImageOperator):
    id, name, description = "Blur", "Blur", "Blurs pictures."
    params = BlurParams

    def make(self, image: Image, draw: Generator, params: BlurParams) -> Made:
        from PIL import ImageFilter

        radius = float(draw.uniform(params.radius_max / 4, params.radius_max))
        kernel = ImageFilter.GaussianBlur if params.blur_type == "Gauss" else ImageFilter.BoxBlur
        return Made(image.filter(kernel(radius)), f"blurred ({params.blur_type}, radius {radius:.2f})")


class MotionBlur(ImageOperator):
    id, name, description = "MotionBlur", "Motion blur", "Blurs pictures in one direction, as a moving camera does."

    def make(self, image: Image, draw: Generator, params: AugmentationParams) -> Made:
        import numpy as np
        from scipy.ndimage import convolve

        length, angle = int(draw.integers(3, 12)), float(draw.uniform(0, np.pi))
        kernel = np.zeros((length, length))
        at = np.linspace(-(length - 1) / 2, (length - 1) / 2, 4 * length)
        middle = (length - 1) / 2
        rows = np.clip(np.round(middle + at * np.sin(angle)), 0, length - 1).astype(int)
        columns = np.clip(np.round(middle + at * np.cos(angle)), 0, length - 1).astype(int)
        kernel[rows, columns] = 1
        kernel /= kernel.sum()
        values = np.asarray(image, np.float64)
        bands = values[..., None] if values.ndim == 2 else values
        blurred = np.stack([convolve(bands[..., n], kernel, mode="nearest") for n in range(bands.shape[2])], 2)
        how = f"blurred by a motion of {length} pixels at {np.rad2deg(angle):.0f} degrees"
        return Made(_image(blurred[..., 0] if values.ndim == 2 else blurred), how)


class Grayscale(ImageOperator):
    id, name, description = "Grayscale", "Grayscale", "Takes the color out of pictures; they keep three channels."

    def make(self, image: Image, draw: Generator, params: AugmentationParams) -> Made:
        return Made(image.convert("L").convert(image.mode), "made gray")


class HistogramEqual(ImageOperator):
    id, name, description = "HistogramEqual", "Histogram equalization", "Spreads the brightness of pictures evenly."

    def make(self, image: Image, draw: Generator, params: AugmentationParams) -> Made:
        from PIL import ImageOps

        return Made(ImageOps.equalize(image), "histogram equalized")


class StrengthParams(AugmentationParams):
    factor_min: float = Field(0.6, ge=0, le=5)
    factor_max: float = Field(1.4, ge=0, le=5)
    """1 leaves the picture as it is."""

    @model_validator(mode="after")
    def _ordered(self) -> StrengthParams:
        if self.factor_min > self.factor_max:
            raise ValueError("factor_min must not be above factor_max")
        return self


class _Enhanced(ImageOperator):
    params = StrengthParams
    enhancer: ClassVar[str]

    def make(self, image: Image, draw: Generator, params: StrengthParams) -> Made:
        from PIL import ImageEnhance

        factor = float(draw.uniform(params.factor_min, params.factor_max))
        made = getattr(ImageEnhance, self.enhancer)(image).enhance(factor)
        return Made(made, f"{self.name.lower()} times {factor:.2f}")


class LightArithmetic(_Enhanced):
    id, name, description = "LightArithmetic", "Brightness", "Makes pictures darker or brighter, linearly."
    enhancer = "Brightness"


class LightContrast(_Enhanced):
    id, name, description = "LightContrast", "Contrast", "Makes the contrast of pictures weaker or stronger."
    enhancer = "Contrast"


class Saturation(_Enhanced):
    id, name, description = "Saturation", "Saturation", "Makes the colors of pictures weaker or stronger."
    enhancer = "Color"


class Sharpen(_Enhanced):
    id, name, description = "Sharpen", "Sharpness", "Makes the edges of pictures softer or sharper."
    enhancer = "Sharpness"


class CutOutParams(AugmentationParams):
    part_max: float = Field(0.15, gt=0, le=0.5)
    """Of the picture's area."""


class CutOut(ImageOperator):
    id, name, description = "CutOut", "Cutout", "Erases a random rectangle, as if something stood in front of it."
    params = CutOutParams

    def make(self, image: Image, draw: Generator, params: CutOutParams) -> Made:
        import numpy as np
        from PIL import ImageDraw

        area = float(draw.uniform(params.part_max / 4, params.part_max)) * image.width * image.height
        ratio = float(np.exp(draw.uniform(-0.7, 0.7)))
        width = max(1, min(image.width, round(np.sqrt(area * ratio))))
        height = max(1, min(image.height, round(np.sqrt(area / ratio))))
        x, y = int(draw.integers(0, image.width - width + 1)), int(draw.integers(0, image.height - height + 1))
        made = image.copy()
        ImageDraw.Draw(made).rectangle((x, y, x + width - 1, y + height - 1), fill=0)
        return Made(made, f"erased ({x}, {y}) - ({x + width}, {y + height})")


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [
        AddNoise(),
        Blur(),
        MotionBlur(),
        Grayscale(),
        HistogramEqual(),
        LightArithmetic(),
        LightContrast(),
        Saturation(),
        Sharpen(),
        CutOut(),
    ]
