"""Data cleansing: dropping, or flagging, what would harm training."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import Field

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import (
    AUDIO,
    CLEANSING,
    IMAGE,
    TEXT,
    Params,
    ProcessingFailure,
    Processor,
)
from bottega_dataset.processing.work import Item, Work


class CleansingParams(Params):
    action: Literal["drop", "flag"] = "drop"
    """Flagged samples stay, their annotations marked as hard examples."""

    def apply(self, work: Work, item: Item, reason: str, **facts: Any) -> None:
        (work.drop if self.action == "drop" else work.flag)(item, reason, **facts)


class Unreadable(Processor):
    id, name = "Unreadable", "Unreadable samples"
    description = "Samples whose object is gone, broken, cut off, or not of a format that is read."
    templates, default = (CLEANSING,), True
    params = CleansingParams
    needs = ("PIL", "numpy", "scipy")

    def process(self, work: Work, params: CleansingParams) -> None:
        from bottega_dataset.processing import audio, images, texts

        decoders: dict[int, Any] = {IMAGE: images.decode, AUDIO: audio.decode, TEXT: texts.decode}
        items = work.items
        for _ in work.read(decoders.get(work.sample_type, bytes), items):
            pass
        for item in items:
            if item in work.unreadable:
                params.apply(work, item, f"cannot be read: {work.unreadable[item]}")


class BlurParams(CleansingParams):
    threshold: float = Field(60, ge=0)
    """Pictures whose Laplacian varies less (as large as 512 pixels) are blurred."""


class Blurred(Processor):
    id, name = "Blurred", "Blurred images"
    description = "Pictures without sharp edges (variance of the Laplacian)."
    templates, sample_types, default = (CLEANSING,), frozenset({IMAGE}), True
    params = BlurParams
    needs = ("PIL", "numpy", "scipy")

    def process(self, work: Work, params: BlurParams) -> None:
        from bottega_dataset.processing import images

        for item, sharp in work.read(lambda content: images.sharpness(images.decode(content))):
            if sharp < params.threshold:
                reason = f"blurred: its sharpness is {sharp:.1f}, below {params.threshold:g}"
                params.apply(work, item, reason, value=round(sharp, 3))


class ExposureParams(CleansingParams):
    darkest: float = Field(15, ge=0, le=255)
    brightest: float = Field(240, ge=0, le=255)


class Exposure(Processor):
    id, name = "Exposure", "Dark and overexposed images"
    description = "Pictures whose mean luma (0 black to 255 white) is too low or too high."
    templates, sample_types, default = (CLEANSING,), frozenset({IMAGE}), True
    params = ExposureParams
    needs = ("PIL", "numpy")

    def process(self, work: Work, params: ExposureParams) -> None:
        from bottega_dataset.processing import images

        for item, luma in work.read(lambda content: float(images.gray(images.decode(content)).mean())):
            if luma < params.darkest:
                params.apply(work, item, f"too dark: mean luma {luma:.1f}, below {params.darkest:g}", value=luma)
            elif luma > params.brightest:
                params.apply(work, item, f"too bright: mean luma {luma:.1f}, above {params.brightest:g}", value=luma)


class SizeParams(CleansingParams):
    min_pixels: int = Field(16, ge=1)
    """Of the shorter side of a picture."""
    min_object_pixels: float = Field(2, ge=0)
    """Shapes whose extent has a shorter side are taken off the picture."""
    min_characters: int = Field(3, ge=1)
    min_seconds: float = Field(0.1, ge=0)


class TooSmall(Processor):
    id, name = "TooSmall", "Samples that are too small"
    description = "Pictures of few pixels, objects of hardly any extent, short texts and short sounds."
    templates, sample_types, default = (CLEANSING,), frozenset({IMAGE, TEXT, AUDIO}), True
    params = SizeParams
    needs = ("PIL", "numpy", "scipy")

    def process(self, work: Work, params: SizeParams) -> None:
        from bottega_dataset.processing import audio, images, texts

        if work.sample_type == IMAGE:
            for item, size in work.read(lambda content: images.decode(content).size):
                if min(size) < params.min_pixels:
                    params.apply(work, item, f"too small: {size[0]} x {size[1]} pixels", value=min(size))
                else:
                    self._objects(work, item, params)
        elif work.sample_type == TEXT:
            for item, text in work.read(texts.decode):
                if len(text.strip()) < params.min_characters:
                    params.apply(work, item, f"too short: {len(text.strip())} characters", value=len(text.strip()))
        else:
            for item, seconds in work.read(lambda content: audio.decode(content).seconds):
                if seconds < params.min_seconds:
                    params.apply(work, item, f"too short: {seconds:.3f} s", value=seconds)

    @staticmethod
    def _objects(work: Work, item: Item, params: SizeParams) -> None:
        from bottega_dataset.processing.image_shapes import shape_of

        kept = []
        for one in item.record.annotations:
            shape = shape_of(one)
            x0, y0, x1, y1 = shape.extent if shape and shape.area > 0 else (0.0, 0.0, float("inf"), float("inf"))
            if min(x1 - x0, y1 - y0) >= params.min_object_pixels:
                kept.append(one)
        gone = len(item.record.annotations) - len(kept)
        if gone:
            least = f"{params.min_object_pixels:g} pixels"
            work.change(item, f"{gone} objects of less than {least} taken off", annotations=kept)


class SilenceParams(CleansingParams):
    level_db: float = Field(-60, le=0)
    """RMS, in dB below full scale."""


class Silent(Processor):
    id, name = "Silent", "Silent sounds"
    description = "Sounds whose level (RMS) is below a limit."
    templates, sample_types, default = (CLEANSING,), frozenset({AUDIO}), True
    params = SilenceParams
    needs = ("numpy", "scipy")

    def process(self, work: Work, params: SilenceParams) -> None:
        from bottega_dataset.processing import audio

        for item, level in work.read(lambda content: audio.rms_db(audio.decode(content))):
            if level < params.level_db:
                params.apply(work, item, f"silent: {level:.1f} dBFS, below {params.level_db:g}", value=round(level, 2))


class MislabelParams(CleansingParams):
    action: Literal["drop", "flag"] = "flag"
    margin: float = Field(0.3, ge=0, le=1)
    """How much more probable another label must be."""


class Mislabeled(Processor):
    id, name = "Mislabeled", "Labels that are probably wrong"
    description = "Samples of one label whose features, judged by models that have not seen them, speak for another."
    templates, sample_types = (CLEANSING,), frozenset({IMAGE, TEXT, AUDIO})
    params = MislabelParams
    needs = ("PIL", "numpy", "scipy", "sklearn")

    def process(self, work: Work, params: MislabelParams) -> None:
        """By the probabilities of models that have not seen the sample (as confident learning does, Northcutt 2021)."""
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        from bottega_dataset.processing import features

        single = [item for item in work.items if len(item.labels) == 1]
        counted = Counter(item.labels[0] for item in single)
        names = sorted(name for name, number in counted.items() if number >= 5)
        if len(names) < 2:
            raise ProcessingFailure(
                "operator 'Mislabeled' needs at least two labels with five samples each that bear no other"
            )
        items, rows = features.vectors(work, [item for item in single if item.labels[0] in names])
        given = np.array([names.index(item.labels[0]) for item in items])
        folds = StratifiedKFold(5, shuffle=True, random_state=work.seed % 2**32)
        model = LogisticRegression(C=0.05, max_iter=1000)
        chances = cross_val_predict(model, rows, given, cv=folds, method="predict_proba")
        for item, said, row, likely in zip(items, given, chances, chances.argmax(1), strict=True):
            if row[likely] - row[said] > params.margin:
                reason = (
                    f"label '{names[said]}' is probably wrong: '{names[likely]}' has {row[likely]:.0%}, "
                    f"'{names[said]}' {row[said]:.0%}"
                )
                params.apply(work, item, reason, suggested=names[likely], confidence=round(float(row[likely]), 4))


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [Unreadable(), Blurred(), Exposure(), TooSmall(), Silent(), Mislabeled()]
