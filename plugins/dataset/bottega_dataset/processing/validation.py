"""Data validation: whether samples and their annotations are as training wants them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import AUDIO, IMAGE, TEXT, VALIDATION, Params, Processor
from bottega_dataset.processing.work import DELETED, Item, Work
from bottega_dataset.sample import CONTENT, Annotation

_START_INDEX, _END_INDEX = "@modelarts:start_index", "@modelarts:end_index"
_END_TIME = "@modelarts:end_time"
_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "BMP": (".bmp",)}


class ValidationParams(Params):
    action: Literal["drop", "flag"] = "drop"
    """What is done with a sample that breaks a rule; flagged ones stay, marked as hard examples."""
    annotations: Literal["clip", "drop", "keep"] = "clip"
    """What is done with an annotation outside of its sample: cut to what is inside, removed, or left as it is."""
    max_file_mb: float = Field(8, gt=0)
    min_width: int = Field(1, ge=1)
    min_height: int = Field(1, ge=1)
    image_max_width: int = Field(-1, ge=-1)
    """Wider pictures are made smaller; -1: no limit."""
    image_max_height: int = Field(-1, ge=-1)
    labels: list[str] = Field(default_factory=list)
    """The labels there may be; none: any."""
    require_label: bool = False
    """Whether a sample without annotations breaks the rules."""


class MetaValidation(Processor):
    id, name = "MetaValidation", "Validation"
    description = "Drops or flags what cannot be read, has the wrong format or size, or whose annotations do not fit."
    templates, default = (VALIDATION,), True
    params = ValidationParams
    needs = ("PIL", "numpy", "scipy")

    def process(self, work: Work, params: ValidationParams) -> None:
        for item in work.items:
            self._check_labels(work, item, params)
        items = work.items
        if work.sample_type == IMAGE:
            self._images(work, items, params)
        elif work.sample_type == AUDIO:
            self._sounds(work, items, params)
        elif work.sample_type == TEXT:
            self._texts(work, items, params)
        else:
            for item, size in work.read(len, items):
                self._check_size(work, item, size, params)
        for item in items:
            if item in work.unreadable:
                self._refuse(work, item, f"cannot be read: {work.unreadable[item]}", params)

    def _images(self, work: Work, items: list[Item], params: ValidationParams) -> None:
        from bottega_dataset.processing import image_shapes, images

        for item, (image, size) in work.read(lambda content: (images.decode(content), len(content)), items):
            self._check_size(work, item, size, params)
            width, height = image.size
            name = item.record.source.lower()
            if not name.endswith(_SUFFIXES[image.format or ""]):
                self._refuse(work, item, f"it is {image.format}, and not what its name ends with", params)
            if width < params.min_width or height < params.min_height:
                least = f"{params.min_width} x {params.min_height}"
                self._refuse(work, item, f"it has {width} x {height} pixels; {least} are needed", params)
            if item.outcome == DELETED:
                continue
            kept: list[Annotation] = []
            outside = 0
            for one in item.record.annotations:
                shape = image_shapes.shape_of(one)
                x0, y0, x1, y1 = shape.extent if shape else (0.0, 0.0, 0.0, 0.0)
                beyond = shape is not None and (x0 < 0 or y0 < 0 or x1 > width or y1 > height)
                if shape is None or not beyond or shape.kind == image_shapes.CIRCLE:
                    kept.append(one)
                    continue
                outside += 1
                inside = image_shapes.clipped(shape, width, height)
                if inside is not None and params.annotations == "clip":
                    kept.append(image_shapes.with_shape(one, inside))
            self._reduce(work, item, kept, outside, f"outside of the picture of {width} x {height} pixels", params)
            if item.outcome != DELETED:
                self._shrink(work, item, image, params)

    def _shrink(self, work: Work, item: Item, image: Any, params: ValidationParams) -> None:
        from bottega_dataset.processing import image_shapes, images

        limits = ((params.image_max_width, image.width), (params.image_max_height, image.height))
        scale = min(1.0, *(limit / length for limit, length in limits if limit > 0), 1.0)
        if scale >= 1:
            return
        import numpy as np

        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        matrix = np.array([[size[0] / image.width, 0, 0], [0, size[1] / image.height, 0]])
        content, suffix = images.encode(image.resize(size, 1), image.format)
        moved = image_shapes.transformed(item.record.annotations, matrix, *size, min_visible=0)
        work.change(
            item,
            f"made smaller, from {image.width} x {image.height} to {size[0]} x {size[1]} pixels",
            annotations=moved,
            content=content,
            suffix=suffix,
            size=size,
        )

    def _sounds(self, work: Work, items: list[Item], params: ValidationParams) -> None:
        from bottega_dataset.processing import audio
        from bottega_dataset.types.times import milliseconds

        for item, (sound, size) in work.read(lambda content: (audio.decode(content), len(content)), items):
            self._check_size(work, item, size, params)
            length = round(sound.seconds * 1000)
            ends = [(one, (one.property or {}).get(_END_TIME)) for one in item.record.annotations]
            kept = [one for one, end in ends if end is None or milliseconds(end) <= length]
            outside = len(ends) - len(kept)
            self._reduce(work, item, kept, outside, f"behind the end of the sound, at {sound.seconds:.3f} s", params)

    def _texts(self, work: Work, items: list[Item], params: ValidationParams) -> None:
        from bottega_dataset.processing import texts

        for item, text in work.read(texts.decode, items):
            if not item.record.source.startswith(CONTENT):
                self._check_size(work, item, len(text.encode()), params)
            ends = [(one, (one.property or {}).get(_END_INDEX)) for one in item.record.annotations]
            kept = [one for one, end in ends if end is None or end <= len(text)]
            outside = len(ends) - len(kept)
            self._reduce(work, item, kept, outside, f"behind the end of the text of {len(text)} characters", params)

    def _reduce(
        self, work: Work, item: Item, kept: list[Annotation], outside: int, where: str, params: ValidationParams
    ) -> None:
        if not outside or item.outcome == DELETED:
            return
        what = f"{outside} annotation{'s' if outside > 1 else ''} {where}"
        if params.annotations == "keep":
            self._refuse(work, item, what, params)
        else:
            done = "cut" if params.annotations == "clip" and len(kept) == len(item.record.annotations) else "removed"
            work.change(item, f"{what}: {done}", annotations=kept)

    def _check_size(self, work: Work, item: Item, size: int, params: ValidationParams) -> None:
        if size > params.max_file_mb * 2**20:
            self._refuse(
                work, item, f"it has {size / 2**20:.1f} MB; at most {params.max_file_mb:g} MB are taken", params
            )

    def _check_labels(self, work: Work, item: Item, params: ValidationParams) -> None:
        if params.require_label and not item.record.annotations:
            self._refuse(work, item, "it bears no label", params)
        strange = [name for name in item.labels if params.labels and name not in params.labels]
        if strange:
            self._refuse(work, item, f"label '{strange[0]}' is none of {', '.join(params.labels)}", params)

    @staticmethod
    def _refuse(work: Work, item: Item, reason: str, params: ValidationParams) -> None:
        (work.drop if params.action == "drop" else work.flag)(item, reason)


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [MetaValidation()]
