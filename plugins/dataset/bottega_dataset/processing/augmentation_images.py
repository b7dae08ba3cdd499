"""Augmentation of pictures, by the vendor's operators and parameters: those that move pixels.

Shapes and masks move with them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import AUGMENTATION, IMAGE, Params, Processor
from bottega_dataset.processing.work import Item, Work
from bottega_dataset.sample import Annotation
from bottega_dataset.types.geometry import FEATURE, MASK, SHAPE

if TYPE_CHECKING:
    from numpy.random import Generator
    from PIL.Image import Image

    from bottega_dataset.processing.image_shapes import Matrix


@dataclass(frozen=True, slots=True)
class Made:
    """A new picture: how it was made, and where the old one's points went (`matrix`; None: they stayed)."""

    image: Image
    how: str
    matrix: Matrix | None = None


class AugmentationParams(Params):
    copies: int = Field(1, ge=1, le=20)
    """How many new pictures are made of each."""
    min_visible: float = Field(0.3, ge=0, le=1)
    """Shapes of which less remains inside the new picture are left out there."""
    do_validation: bool = True
    """Whether samples that cannot be read are dropped; else they stay as they are."""


class ImageOperator(Processor):
    """Makes pictures of pictures; a subclass says how one is made."""

    templates, sample_types = (AUGMENTATION,), frozenset({IMAGE})
    params = AugmentationParams
    needs = ("PIL", "numpy", "scipy")

    @abstractmethod
    def make(self, image: Image, draw: Generator, params: Any) -> Made | None:
        """One new picture; None where chance leaves the picture as it is."""

    def process(self, work: Work, params: AugmentationParams) -> None:
        from bottega_dataset.processing import images

        items = work.original_items
        for item, image in work.read(images.decode, items):
            if any(isinstance((one.property or {}).get(MASK), str) for one in item.record.annotations):
                work.note(item, "not augmented: its mask lies in a file of its own")
                continue
            for copy in range(params.copies):
                made = self.make(image, work.random(item, copy), params)
                if made is not None:
                    self._add(work, item, image, made, params)
        for item in items:
            if item in work.unreadable and params.do_validation:
                work.drop(item, f"cannot be read: {work.unreadable[item]}")

    def _add(self, work: Work, item: Item, image: Image, made: Made, params: AugmentationParams) -> None:
        from bottega_dataset.processing import images

        annotations = [replace(one) for one in item.record.annotations]
        if made.matrix is not None:
            annotations = _followed(annotations, image, made, params.min_visible)
        content, suffix = images.encode(made.image, image.format)
        work.add(item, made.how, content=content, annotations=annotations, suffix=suffix, size=made.image.size)


def _followed(annotations: list[Annotation], image: Image, made: Made, min_visible: float) -> list[Annotation]:
    """Shapes and masks after the pixels moved; an area whose mask vanishes is left out."""
    from bottega_dataset.processing import image_masks, image_shapes

    assert made.matrix is not None
    width, height = made.image.size
    found = []
    for one in image_shapes.transformed(annotations, made.matrix, width, height, min_visible):
        mask = (one.property or {}).get(MASK)
        if mask is not None:
            moved = image_masks.moved(mask, made.matrix, (width, height), min_visible)
            if moved is None:
                continue
            one = replace(one, property={**(one.property or {}), MASK: moved})
        found.append(one)
    # An area may have had a polygon and a mask; it stays when either does, without what vanished.
    return [one for one in found if not _empty(one)]


def _empty(one: Annotation) -> bool:
    prop = one.property or {}
    return SHAPE in prop and not prop.get(FEATURE)


def _warped(image: Image, matrix: Matrix, size: tuple[int, int], how: str) -> Made:
    """The picture moved by `matrix` onto one of `size`; what nothing comes to is black."""
    import numpy as np
    from PIL.Image import Resampling, Transform

    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    made = image.transform(size, Transform.AFFINE, tuple(inverse.ravel()), Resampling.BILINEAR)
    return Made(made, how, matrix)


class FlipParams(AugmentationParams):
    lr_ud: Literal["lr", "ud"] = "lr"
    """Left and right are exchanged, or up and down."""
    flip_p: float = Field(1, ge=0, le=1)
    """With which probability."""


class Flip(ImageOperator):
    id, name, description = "Flip", "Flip", "Mirrors pictures, left to right or upside down."
    params = FlipParams

    def make(self, image: Image, draw: Generator, params: FlipParams) -> Made | None:
        import numpy as np
        from PIL import ImageOps

        if draw.random() >= params.flip_p:
            return None
        width, height = image.size
        if params.lr_ud == "lr":
            return Made(ImageOps.mirror(image), "flipped left to right", np.array([[-1.0, 0, width], [0, 1, 0]]))
        return Made(ImageOps.flip(image), "flipped upside down", np.array([[1.0, 0, 0], [0, -1, height]]))


class RotateParams(AugmentationParams):
    angle_max: float = Field(90, ge=0, le=180)
    """Degrees; the angle is drawn from minus to plus this."""


class Rotate(ImageOperator):
    id, name, description = "Rotate", "Rotate", "Turns pictures around their middle; the size stays, corners are black."
    params = RotateParams

    def make(self, image: Image, draw: Generator, params: RotateParams) -> Made:
        import numpy as np

        angle = float(draw.uniform(-params.angle_max, params.angle_max))
        turn = np.deg2rad(angle)
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = np.array(image.size) / 2
        matrix = np.column_stack([linear, middle - linear @ middle])
        return _warped(image, matrix, image.size, f"rotated by {angle:.1f} degrees")


class CropParams(AugmentationParams):
    crop_percent_min: float = Field(0.0, ge=0, le=0.45)
    crop_percent_max: float = Field(0.2, ge=0, le=0.45)
    """The part of the width and height that is cut off each side is drawn between these."""

    @model_validator(mode="after")
    def _ordered(self) -> CropParams:
        if self.crop_percent_min > self.crop_percent_max:
            raise ValueError("crop_percent_min must not be above crop_percent_max")
        return self


class Crop(ImageOperator):
    id, name, description = "Crop", "Crop", "Cuts a random part out of pictures."
    params = CropParams

    def make(self, image: Image, draw: Generator, params: CropParams) -> Made:
        import numpy as np

        width, height = image.size
        left, top, right, bottom = draw.uniform(params.crop_percent_min, params.crop_percent_max, 4)
        x0, y0 = int(left * width), int(top * height)
        x1, y1 = max(x0 + 1, width - int(right * width)), max(y0 + 1, height - int(bottom * height))
        how = f"cropped to ({x0}, {y0}) - ({x1}, {y1})"
        return Made(image.crop((x0, y0, x1, y1)), how, np.array([[1.0, 0, -x0], [0, 1, -y0]]))


class ScaleParams(AugmentationParams):
    scaleXY: Literal["X", "Y", "XY"] = "X"  # the vendor's name
    scale_min: float = Field(0.5, gt=0, le=10)
    scale_max: float = Field(1.5, gt=0, le=10)

    @model_validator(mode="after")
    def _ordered(self) -> ScaleParams:
        if self.scale_min > self.scale_max:
            raise ValueError("scale_min must not be above scale_max")
        return self


class Scale(ImageOperator):
    id, name, description = "Scale", "Scale", "Makes pictures wider or narrower, higher or lower, or both."
    params = ScaleParams

    def make(self, image: Image, draw: Generator, params: ScaleParams) -> Made:
        factor = float(draw.uniform(params.scale_min, params.scale_max))
        width = max(1, round(image.width * (factor if "X" in params.scaleXY else 1)))
        height = max(1, round(image.height * (factor if "Y" in params.scaleXY else 1)))
        return _resized(image, (width, height), f"scaled by {factor:.2f} ({params.scaleXY})")


def _resized(image: Image, size: tuple[int, int], how: str) -> Made:
    import numpy as np

    matrix = np.array([[size[0] / image.width, 0, 0], [0, size[1] / image.height, 0]])
    return Made(image.resize(size, 2), how, matrix)


class ResizeParams(AugmentationParams):
    height: int = Field(224, ge=1, le=8192)
    width: int = Field(224, ge=1, le=8192)


class Resize(ImageOperator):
    id, name, description = "Resize", "Resize", "Brings pictures to one size."
    params = ResizeParams

    def make(self, image: Image, draw: Generator, params: ResizeParams) -> Made:
        size = params.width, params.height
        return _resized(image, size, f"resized to {params.width} x {params.height} pixels")


class TranslateParams(AugmentationParams):
    translateXY: Literal["X", "Y", "XY"] = "X"  # the vendor's name
    translate_min: float = Field(-20, ge=-4096, le=4096)
    translate_max: float = Field(20, ge=-4096, le=4096)
    """Pixels."""

    @model_validator(mode="after")
    def _ordered(self) -> TranslateParams:
        if self.translate_min > self.translate_max:
            raise ValueError("translate_min must not be above translate_max")
        return self


class Translate(ImageOperator):
    id, name, description = (
        "Translate",
        "Translate",
        "Moves pictures sideways, up or down; what is left empty is black.",
    )
    params = TranslateParams

    def make(self, image: Image, draw: Generator, params: TranslateParams) -> Made:
        import numpy as np

        by = np.round(draw.uniform(params.translate_min, params.translate_max, 2))
        x, y = (
            (float(by[0]) if "X" in params.translateXY else 0.0),
            (float(by[1]) if "Y" in params.translateXY else 0.0),
        )
        matrix = np.array([[1.0, 0, x], [0, 1, y]])
        return _warped(image, matrix, image.size, f"moved by {x:g} pixels to the right, {y:g} down")


class ShearParams(AugmentationParams):
    shearXY: Literal["X", "Y"] = "X"  # the vendor's name
    shear_min: float = Field(-30, ge=-60, le=60)
    shear_max: float = Field(30, ge=-60, le=60)
    """Degrees."""

    @model_validator(mode="after")
    def _ordered(self) -> ShearParams:
        if self.shear_min > self.shear_max:
            raise ValueError("shear_min must not be above shear_max")
        return self


class Shear(ImageOperator):
    id, name, description = "Shear", "Shear", "Slants pictures; what is left empty is black."
    params = ShearParams

    def make(self, image: Image, draw: Generator, params: ShearParams) -> Made:
        import numpy as np

        angle = float(draw.uniform(params.shear_min, params.shear_max))
        slope = float(np.tan(np.deg2rad(angle)))
        linear = np.array([[1.0, slope], [0, 1]]) if params.shearXY == "X" else np.array([[1.0, 0], [slope, 1]])
        middle = np.array(image.size) / 2
        matrix = np.column_stack([linear, middle - linear @ middle])
        return _warped(image, matrix, image.size, f"sheared along {params.shearXY} by {angle:.1f} degrees")


class PaddingParams(AugmentationParams):
    px_top: int = Field(1, ge=0, le=4096)
    px_right: int = Field(1, ge=0, le=4096)
    px_left: int = Field(1, ge=0, le=4096)
    px_bottom: int = Field(1, ge=0, le=4096)


class Padding(ImageOperator):
    id, name, description = "Padding", "Padding", "Puts a black border around pictures."
    params = PaddingParams

    def make(self, image: Image, draw: Generator, params: PaddingParams) -> Made:
        import numpy as np
        from PIL import ImageOps

        border = params.px_left, params.px_top, params.px_right, params.px_bottom
        matrix = np.array([[1.0, 0, params.px_left], [0, 1, params.px_top]])
        return Made(ImageOps.expand(image, border, 0), f"padded by {border} pixels (left, top, right, bottom)", matrix)


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [Flip(), Rotate(), Crop(), Scale(), Resize(), Translate(), Shear(), Padding()]
