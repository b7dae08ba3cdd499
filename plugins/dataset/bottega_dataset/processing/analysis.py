"""Feature analysis: what the samples of a dataset are like, as pictures and data."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import Field

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import ANALYSIS, AUDIO, IMAGE, TEXT, Params, Processor
from bottega_dataset.processing.work import Item, Work

_OUTLIERS = 20


class ImageFeatures(Processor):
    id, name = "ImageFeatures", "Image features"
    description = "Resolution, aspect ratio, file size, brightness, contrast, colors, color cast and blur of pictures."
    templates, sample_types, default = (ANALYSIS,), frozenset({IMAGE}), True
    needs = ("PIL", "numpy", "scipy", "matplotlib")

    def process(self, work: Work, params: Params) -> None:
        from bottega_dataset.processing import charts, images

        measured: dict[str, list[float]] = {
            name: []
            for name in (
                "width",
                "height",
                "aspect_ratio",
                "file_size",
                "brightness",
                "contrast",
                "colorfulness",
                "color_cast",
                "sharpness",
            )
        }
        items: list[Item] = []
        modes: Counter[str] = Counter()
        for item, (image, size) in work.read(lambda content: (images.decode(content), len(content))):
            values = images.gray(image)
            width, height = image.size
            items.append(item)
            modes[f"{image.format}, {'gray' if image.mode == 'L' else 'color'}"] += 1
            for name, value in (
                ("width", width),
                ("height", height),
                ("aspect_ratio", width / height),
                ("file_size", size / 1024),
                ("brightness", float(values.mean())),
                ("contrast", float(values.std())),
                ("colorfulness", images.colorfulness(image)),
                ("color_cast", images.color_cast(image)),
                ("sharpness", images.sharpness(image)),
            ):
                measured[name].append(value)
        if not items:
            return
        data, figure = charts.scatter(
            measured["width"], measured["height"], "Resolution of the images", "width [pixels]", "height [pixels]"
        )
        for name in ("width", "height"):
            data[name] = charts.statistics(measured[name])
        work.find("resolution", data, figure)
        work.find("format", *charts.bars(modes, "Formats of the images", "format", of="images"))
        for name, title, label, unit, ends in (
            ("aspect_ratio", "Aspect ratio of the images", "width / height", "", "both"),
            ("file_size", "File size of the images", "size", "KB", "high"),
            ("brightness", "Brightness of the images", "mean luma, 0 black to 255 white", "", "both"),
            ("contrast", "Contrast of the images", "standard deviation of the luma", "", "low"),
            ("colorfulness", "Colorfulness of the images", "0 gray, 45 moderate, 80 strong", "", "low"),
            ("color_cast", "Color cast of the images", "mean color over spread; above 1.5 a cast", "", "high"),
            ("sharpness", "Sharpness of the images", "variance of the Laplacian; low is blurred", "", "low"),
        ):
            data, figure = charts.distribution(measured[name], title, label, unit=unit)
            work.find(name, data | {"extremes": _extremes(items, measured[name], ends)}, figure)


class BoxFeatures(Processor):
    id, name = "BoxFeatures", "Object features"
    description = "Objects per image, their size, aspect ratio, stacking (overlap), and where in the image they lie."
    templates, sample_types, default = (ANALYSIS,), frozenset({IMAGE}), True
    needs = ("PIL", "numpy", "scipy", "matplotlib")

    def process(self, work: Work, params: Params) -> None:
        from bottega_dataset.processing import charts, images
        from bottega_dataset.processing.image_shapes import covered, shape_of

        per_image: list[float] = []
        areas: list[float] = []
        ratios: list[float] = []
        stacking: list[float] = []
        xs: list[float] = []
        ys: list[float] = []
        kinds: Counter[str] = Counter()
        wanted = [item for item in work.items if any(shape_of(one) for one in item.record.annotations)]
        if not wanted:
            return
        for item, image in work.read(images.decode, wanted):
            width, height = image.size
            shapes = [shape for one in item.record.annotations if (shape := shape_of(one))]
            boxes = [shape.extent for shape in shapes]
            per_image.append(len(shapes))
            for number, (shape, (x0, y0, x1, y1)) in enumerate(zip(shapes, boxes, strict=True)):
                kinds[shape.kind] += 1
                xs.append(min(1.0, max(0.0, (x0 + x1) / 2 / width)))
                ys.append(min(1.0, max(0.0, (y0 + y1) / 2 / height)))
                if shape.area <= 0:
                    continue
                areas.append(100 * shape.area / (width * height))
                ratios.append((x1 - x0) / (y1 - y0) if y1 > y0 else 0.0)
                others = [box for other, box in enumerate(boxes) if other != number]
                stacking.append(100 * covered(boxes[number], others))
        work.find("shapes", *charts.bars(kinds, "Shapes of the objects", "shape", of="objects"))
        for name, values, title, label, unit, of in (
            ("boxes_per_image", per_image, "Objects per image", "objects in an image", "", "images"),
            ("box_area", areas, "Size of the objects", "part of the image's area", "%", "objects"),
            ("box_aspect_ratio", ratios, "Aspect ratio of the objects", "width / height", "", "objects"),
            ("box_stacking", stacking, "Stacking of the objects", "part covered by other objects", "%", "objects"),
        ):
            if values:
                work.find(name, *charts.distribution(values, title, label, unit=unit, of=of))
        if xs:
            title, x_label, y_label = "Where the objects lie", "x / width", "y / height (downwards)"
            work.find("box_position", *charts.heat_map(xs, ys, title, x_label, y_label))


class ClassBalance(Processor):
    id, name = "ClassBalance", "Class balance"
    description = "How many samples and annotations each label has, and how many labels a sample bears."
    templates, default = (ANALYSIS,), True
    needs = ("numpy", "matplotlib")

    def process(self, work: Work, params: Params) -> None:
        from bottega_dataset.processing import charts

        samples: Counter[str] = Counter()
        annotations: Counter[str] = Counter()
        per_sample: list[int] = []
        unlabeled = 0
        for item in work.items:
            names = item.labels
            annotations.update(names)
            samples.update(set(names))
            per_sample.append(len(names))
            unlabeled += not item.record.annotations
        if samples:
            data, figure = charts.bars(samples, "Samples per label", "label")
            most, least = max(samples.values()), min(samples.values())
            data |= {"annotations": dict(annotations), "imbalance": round(most / least, 3), "unlabeled": unlabeled}
            work.find("class_balance", data, figure)
            title = "Labels per sample"
            work.find("labels_per_sample", *charts.distribution(per_sample, title, "labels on a sample", of="samples"))
        else:
            work.find("class_balance", {"counts": {}, "unlabeled": unlabeled})


class TextFeatures(Processor):
    id, name = "TextFeatures", "Text features"
    description = "Length of texts in characters and words, and the words that are most frequent."
    templates, sample_types, default = (ANALYSIS,), frozenset({TEXT}), True
    needs = ("numpy", "matplotlib")

    def process(self, work: Work, params: Params) -> None:
        from bottega_dataset.processing import charts, texts

        items: list[Item] = []
        characters: list[float] = []
        words: list[float] = []
        vocabulary: Counter[str] = Counter()
        for item, text in work.read(texts.decode):
            found = [word.casefold() for word in texts.WORD.findall(text)]
            items.append(item)
            characters.append(len(text))
            words.append(len(found))
            vocabulary.update(found)
        if not items:
            return
        data, figure = charts.distribution(characters, "Length of the texts", "characters", of="texts")
        work.find("text_length", data | {"extremes": _extremes(items, characters, "both")}, figure)
        work.find("word_count", *charts.distribution(words, "Words of the texts", "words", of="texts"))
        most = dict(vocabulary.most_common(30))
        data, figure = charts.bars(most, "Most frequent words", "word", of="occurrences")
        work.find("words", data | {"vocabulary": len(vocabulary)}, figure)


class AudioFeatures(Processor):
    id, name = "AudioFeatures", "Audio features"
    description = "Length, loudness (RMS and LUFS), peak, silence, clipping, rate and channels of sounds."
    templates, sample_types, default = (ANALYSIS,), frozenset({AUDIO}), True
    needs = ("numpy", "scipy", "matplotlib")

    def process(self, work: Work, params: Params) -> None:
        from bottega_dataset.processing import audio, charts

        items: list[Item] = []
        forms: Counter[str] = Counter()
        measured: dict[str, list[float]] = {
            name: [] for name in ("length", "rms", "loudness", "peak", "silence", "clipping")
        }
        for item, sound in work.read(audio.decode):
            items.append(item)
            channels = sound.samples.shape[1]
            forms[f"{sound.rate} Hz, {channels} channel{'s' if channels > 1 else ''}, {sound.dtype}"] += 1
            for name, value in (
                ("length", sound.seconds),
                ("rms", audio.rms_db(sound)),
                ("loudness", audio.loudness(sound)),
                ("peak", audio.peak_db(sound)),
                ("silence", 100 * audio.silent_part(sound)),
                ("clipping", 100 * audio.clipped_part(sound)),
            ):
                measured[name].append(value)
        if not items:
            return
        work.find("audio_format", *charts.bars(forms, "Forms of the sounds", "form", of="sounds"))
        for name, title, label, unit, ends in (
            ("length", "Length of the sounds", "length", "s", "both"),
            ("rms", "Level of the sounds (RMS)", "root mean square", "dBFS", "both"),
            ("loudness", "Loudness of the sounds (BS.1770)", "integrated loudness", "LUFS", "both"),
            ("peak", "Peak of the sounds", "greatest value", "dBFS", "low"),
            ("silence", "Silence in the sounds", "part of the time below -50 dBFS", "%", "high"),
            ("clipping", "Clipping of the sounds", "part of the values at full scale", "%", "high"),
        ):
            data, figure = charts.distribution(measured[name], title, label, unit=unit, of="sounds")
            work.find(f"audio_{name}", data | {"extremes": _extremes(items, measured[name], ends)}, figure)


class DuplicateParams(Params):
    likeness: float = Field(0.95, ge=0.5, le=1)
    """From which likeness on two samples count as nearly the same; 1 looks for exact ones only."""


class Duplicates(Processor):
    id, name = "Duplicates", "Duplicates"
    description = "Samples that are the same, or nearly (pictures by perceptual hash, texts by MinHash, sounds)."
    templates, sample_types, default = (ANALYSIS,), frozenset({IMAGE, TEXT, AUDIO}), True
    params = DuplicateParams
    needs = ("PIL", "numpy", "scipy", "imagehash", "datasketch", "matplotlib")

    def process(self, work: Work, params: DuplicateParams) -> None:
        from bottega_dataset.processing import charts, similarity

        order = work.items
        same = similarity.exact(work, order)
        doubles = {one.item for one in same}
        like = similarity.near(work, [item for item in order if item not in doubles], params.likeness)
        groups: dict[Item, list[dict[str, Any]]] = {}
        for one in (*same, *like):
            entry = {"source": one.item.record.source[:500], "how": one.how, "likeness": one.likeness}
            groups.setdefault(one.of, []).append(entry)
        counts = {"unique": len(order) - len(same) - len(like), "the same": len(same), "nearly the same": len(like)}
        data, figure = charts.bars(counts, "Duplicates among the samples", "kind")
        shown = [{"of": of.record.source[:500], "duplicates": found} for of, found in list(groups.items())[:200]]
        work.find("duplicates", data | {"groups": shown, "group_count": len(groups)}, figure)


class Readability(Processor):
    id, name = "Readability", "Readability"
    description = "How many samples can be read, and why the others cannot."
    templates, default = (ANALYSIS,), True
    needs = ("numpy",)

    def process(self, work: Work, params: Params) -> None:
        """Comes after the others, which have read the samples; reads them only where none did."""
        shown = [{"source": i.record.source[:500], "reason": why} for i, why in list(work.unreadable.items())[:200]]
        count = len(work.items) - len(work.unreadable)
        work.find("readability", {"readable": count, "unreadable": len(work.unreadable), "problems": shown})


def _extremes(items: list[Item], values: list[float], ends: str) -> dict[str, list[dict[str, Any]]]:
    """The samples at the ends of a distribution that a person wants to look at."""
    order = sorted(range(len(items)), key=lambda at: (values[at], at))
    few = max(1, min(_OUTLIERS, len(items) // 10))
    chosen = {"low": order[:few], "high": order[::-1][:few]}
    return {
        end: [{"source": items[at].record.source[:500], "value": round(values[at], 4)} for at in found]
        for end, found in chosen.items()
        if ends in (end, "both")
    }


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [
        ImageFeatures(),
        BoxFeatures(),
        TextFeatures(),
        AudioFeatures(),
        ClassBalance(),
        Duplicates(),
        Readability(),
    ]
