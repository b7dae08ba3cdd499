"""Learners that find parts of samples (areas, triplets, stretches, intervals) and what is said: they keep their
contract, and beat what one would say without learning. All samples are synthetic."""

from __future__ import annotations

import io
import tempfile
import wave
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bottega.testing import RunningPlatform, Tenant
from bottega_dataset.client import Datasets
from bottega_dataset.learner import Lesson
from bottega_dataset.learner_conformance import LearnerContract
from bottega_dataset.learners.image_segmentation import ImageSegmentationLearner
from bottega_dataset.learners.speech_content import SpeechContentLearner
from bottega_dataset.learners.speech_segmentation import SpeechSegmentationLearner
from bottega_dataset.learners.text_triplet import TextTripletLearner
from bottega_dataset.learners.video import VideoLearner
from bottega_dataset.manifest import format_line
from bottega_dataset.sample import Annotation, BadSample, SampleRecord
from bottega_dataset.types.masks import run_lengths
from bottega_dataset.types.times import milliseconds

Made = tuple[SampleRecord, bytes]
START, END = "@modelarts:start_time", "@modelarts:end_time"


class Parts(LearnerContract):
    """`make` gives a sample with what there is in truth; `KNOWN` of them are labeled, `NEW` are not."""

    KNOWN, NEW = 10, 8

    @staticmethod
    def make(rng: np.random.Generator, number: int) -> Made:
        raise NotImplementedError

    @classmethod
    @cache
    def made(cls) -> tuple[list[Made], list[Made]]:
        rng = np.random.default_rng(0)
        every = [cls.make(rng, number) for number in range(cls.KNOWN + cls.NEW)]
        return every[: cls.KNOWN], every[cls.KNOWN :]

    def labeled(self) -> Sequence[Made]:
        return self.made()[0]

    def truths(self) -> list[list[Annotation]]:
        return [record.annotations for record, _ in self.made()[1]]

    def unlabeled(self) -> Sequence[tuple[SampleRecord, bytes, set[str]]]:
        return [
            (replace(record, annotations=[]), data, {self.told(one) for one in record.annotations})
            for record, data in self.made()[1]
        ]


class TestImageSegmentation(Parts):
    learner, code, broken = ImageSegmentationLearner, 3, b"\x89PNG\r\n\x1a\n and no more"

    @staticmethod
    def make(rng: np.random.Generator, number: int) -> Made:
        """A rough disc ("tissue") somewhere on smooth ground of the same brightness, and a bluish band ("water")."""
        height, width = 60, 80
        down, across = np.mgrid[0:height, 0:width]
        disc = (down - rng.integers(16, 26)) ** 2 + (across - rng.integers(18, 62)) ** 2 <= rng.integers(10, 15) ** 2
        band = down >= rng.integers(46, 52)
        pixels = np.full((height, width, 3), 120.0) + rng.normal(0, 6, (height, width, 1))
        pixels[disc] += rng.normal(0, 45, (int(disc.sum()), 1))
        pixels[band] += (-25, 0, 25)
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        said = [
            Annotation("image_segmentation", name, {"@modelarts:mask": {"size": [height, width], "counts": runs(mask)}})
            for name, mask in (("tissue", disc), ("water", band))
        ]
        property_ = {"@modelarts:size": [width, height, 3]}
        return SampleRecord(f"s3://bucket/{number}.png", said, property=property_), file.getvalue()

    def test_areas_cover_what_is_there_and_more_than_the_usual_place(self, running: RunningPlatform) -> None:
        usual = {
            name: np.mean([area(one, name) for one in (r.annotations for r, _ in self.labeled())], axis=0) >= 0.5
            for name in ("tissue", "water")
        }
        for name, least, gain in (("tissue", 0.7, 0.3), ("water", 0.9, 0.0)):
            pairs = list(zip(self.answers(running).suggestions, self.truths(), strict=True))
            ours = np.mean([shared(area(found, name), area(truth, name)) for found, truth in pairs])
            trivial = np.mean([shared(usual[name], area(truth, name)) for _, truth in pairs])
            assert float(ours) >= max(least, float(trivial) + gain), (
                f"{name}: {ours:.2f}, the usual place {trivial:.2f}"
            )
        measured = self.answers(running).accuracy
        assert measured is not None
        assert measured > 0.7

    def test_who_draws_polygons_gets_polygons(self) -> None:
        rng = np.random.default_rng(2)

        def square(number: int) -> tuple[bytes, list[Annotation]]:
            image = Image.fromarray(rng.normal(90, 8, (200, 300, 3)).clip(0, 255).astype(np.uint8))
            x, y = (int(rng.integers(5, most)) for most in (190, 90))
            corners = [[x, y], [x + 90, y], [x + 90, y + 90], [x, y + 90]]
            ImageDraw.Draw(image).polygon([(a, b) for a, b in corners], fill=(200, 60, 60))
            file = io.BytesIO()
            image.save(file, "PNG")
            drawn = {"@modelarts:shape": "polygon", "@modelarts:feature": corners}
            return file.getvalue(), [Annotation("image_segmentation", "stop", drawn)]

        made = [square(number) for number in range(7)]
        learner = ImageSegmentationLearner()
        opened = [learner.open(SampleRecord(f"s3://b/{n}.png"), data) for n, (data, _) in enumerate(made)]
        answers = learner.suggest(lesson(opened[:5], [said for _, said in made[:5]], opened[5:], "image_segmentation"))
        for found, (_, truth) in zip(answers.suggestions, made[5:], strict=True):
            (one,) = found
            assert one.property is not None
            assert one.property["@modelarts:shape"] == "polygon"
            points = np.array(one.property["@modelarts:feature"])
            corners = np.array((truth[0].property or {})["@modelarts:feature"])
            assert np.abs(points.min(0) - corners.min(0)).max() <= 6
            assert np.abs(points.max(0) - corners.max(0)).max() <= 6

    def test_masks_in_files_teach_nothing(self) -> None:
        learner = ImageSegmentationLearner()
        opened = [learner.open(record, data) for record, data in self.labeled()]
        in_file = Annotation("image_segmentation", "tissue", {"@modelarts:mask": "s3://b/a.png"})
        answers = learner.suggest(lesson(opened[:5], [[in_file]] * 5, opened[5:], "image_segmentation"))
        assert answers.suggestions == [[]] * 5
        assert "masks in files are not read" in answers.method


def runs(mask: Any) -> Any:
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return np.diff([0, *edges, len(flat)]).tolist()


def area(said: Sequence[Annotation], name: str) -> Any:
    """What all areas of a label cover together."""
    covered = np.zeros((60, 80), bool)
    for one in said:
        if one.name == name:
            height, width, counts = run_lengths((one.property or {})["@modelarts:mask"], "mask")
            covered |= np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
    return covered


def shared(some: Any, others: Any) -> float:
    return float((some & others).sum() / max(1, (some | others).sum()))


def lesson(
    labeled: Sequence[Any], annotations: Sequence[Sequence[Annotation]], unlabeled: Sequence[Any], kind: str
) -> Lesson:
    none = np.zeros((0, 1))
    return Lesson(labeled, annotations, unlabeled, none, none, kind, True, 0, lambda part: None)


PEOPLE = ["Anna", "Bernd", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Klara", "Lukas", "Nils"]
FIRMS = ["Acme", "Bolt", "Cirrus", "Delta", "Elbe", "Fabrik", "Gamma", "Helix", "Iris", "Jura", "Kappa", "Linde"]
FORMS = (
    ("{p} founded {f} long ago", "founded"),
    ("the firm {f} was founded by Mr {p}", "founded"),
    ("Mrs {p} works for {f} now", "works_for"),
    ("the firm {f} employs {p} as a clerk", "works_for"),
    ("Mr {p} passed the house of {f} yesterday", ""),
    ("the firm {f} has never heard of {p} at all", ""),
)


class TestTriplets(Parts):
    learner, code, broken = TextTripletLearner, 102, b"\xff\xfe\xff"
    KNOWN, NEW = 40, 20

    @staticmethod
    def make(rng: np.random.Generator, number: int) -> Made:
        """One or two clauses, each with a person and a firm that are joined, or not."""
        text, said = "", []
        for clause in range(int(rng.integers(1, 3))):
            form, relation = FORMS[rng.integers(len(FORMS))]
            names = {"p": str(rng.choice(PEOPLE)), "f": str(rng.choice(FIRMS))}
            text += ("; " if text else "") + form[: form.index("{")]
            for part in form[form.index("{") :].split("{")[1:]:
                key, _, rest = part.partition("}")
                place = {"@modelarts:start_index": len(text), "@modelarts:end_index": len(text) + len(names[key])}
                label = {"p": "person", "f": "firm"}[key]
                said.append(Annotation("text_entity", label, place, id=f"{key}{clause}"))
                text += names[key] + rest
            if relation:
                ends = {"@modelarts:from": f"p{clause}", "@modelarts:to": f"f{clause}"}
                said.append(Annotation("text_triplet", relation, ends, id=f"r{clause}"))
        return SampleRecord(f"content://{text}", said), text.encode()

    def test_whole_triplets_are_right_more_often_than_by_joining_whatever_stands_together(
        self, running: RunningPlatform
    ) -> None:
        truths = [triplets(said) for said in self.truths()]
        usual = Counter(label for record, _ in self.labeled() for label, *_ in triplets(record.annotations))
        trivial = [
            {(usual.most_common(1)[0][0], p, f) for p in places(said, "person") for f in places(said, "firm")}
            for said in self.truths()
        ]
        ours = [triplets(some) for some in self.answers(running).suggestions]
        assert f1(ours, truths) >= 0.85 > f1(trivial, truths) + 0.3
        measured = self.answers(running).accuracy
        assert measured is not None
        assert measured > 0.7

    def test_nothing_is_joined_where_no_relation_was_labeled(self) -> None:
        learner = TextTripletLearner()
        texts = [learner.open(record, data) for record, data in self.labeled()]
        entities = [[one for one in r.annotations if one.type == "text_entity"] for r, _ in self.labeled()]
        answers = learner.suggest(lesson(texts[:20], entities[:20], texts[20:], "text_triplet"))
        assert {one.type for some in answers.suggestions for one in some} == {"text_entity"}


def places(said: Sequence[Annotation], label: str) -> list[str]:
    return [str(one.property) for one in said if one.name == label]


def triplets(said: Sequence[Annotation]) -> set[tuple[str, str, str]]:
    entities = {one.id: str(one.property) for one in said if one.type == "text_entity"}
    joined = [(one.name, one.property or {}) for one in said if one.type == "text_triplet"]
    return {(name, entities[p["@modelarts:from"]], entities[p["@modelarts:to"]]) for name, p in joined}


def f1(found: Sequence[set[Any]], truth: Sequence[set[Any]]) -> float:
    right = sum(len(a & b) for a, b in zip(found, truth, strict=True))
    return 2 * right / max(1, sum(map(len, found)) + sum(map(len, truth)))


RATE = 16_000


def wav(heard: Any, rng: np.random.Generator) -> bytes:
    noisy = np.asarray(heard) * rng.uniform(0.5, 1.0) + rng.normal(0, 0.01, len(heard))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes((np.clip(noisy, -1, 1) * 20000).astype("<i2").tobytes())
    return file.getvalue()


def voice(pitch: float, seconds: float, formant: float | Any) -> Any:
    """Harmonics of a pitch, the louder the nearer they are to a formant (Hz; a number, or one for each moment)."""
    moments = np.arange(round(seconds * RATE)) / RATE
    parts = [
        np.exp(-(((n * pitch - formant) / 300) ** 2)) * np.sin(2 * np.pi * n * pitch * moments)
        for n in range(1, int(3500 / pitch))
    ]
    return 0.4 * np.sum(parts, axis=0) * np.hanning(len(moments)) ** 0.2


def clock(seconds: float) -> str:
    return f"00:00:{seconds:06.3f}"


class TestSpeechSegmentation(Parts):
    learner, code, broken = SpeechSegmentationLearner, 202, b"RIFF....WAVEfmt "
    KNOWN, NEW = 8, 6

    def told(self, one: Annotation) -> str:
        return str((one.property or {})["@modelarts:source"])

    @staticmethod
    def make(rng: np.random.Generator, number: int) -> Made:
        """Two voices by turns, with pauses, in eight seconds."""
        heard, said, at = np.zeros(8 * RATE), [], 0.3
        for turn in range(4):
            who = ("Tom", "Jerry")[(turn + number) % 2]
            long = float(rng.uniform(0.7, 1.4))
            part = voice(110 if who == "Tom" else 220, long, rng.uniform(600, 800) if who == "Tom" else 1800)
            heard[round(at * RATE) : round(at * RATE) + len(part)] = part
            place = {START: clock(at), END: clock(at + long), "@modelarts:source": who}
            said.append(Annotation("audio_segmentation", "", place))
            at += long + float(rng.uniform(0.3, 0.5))
        return SampleRecord(f"s3://bucket/{number}.wav", said), wav(heard, rng)

    def test_stretches_lie_where_somebody_speaks_and_say_who(self, running: RunningPlatform) -> None:
        ours = hits(self.answers(running).suggestions, self.truths(), self.told)
        whoever = [
            [replace(one, property={**(one.property or {}), "@modelarts:source": "Tom"}) for one in some]
            for some in self.truths()
        ]
        assert ours >= 0.9 > hits(whoever, self.truths(), self.told) + 0.2
        assert self.answers(running).accuracy is not None

    def test_a_header_that_lies_is_told(self) -> None:
        with pytest.raises(BadSample, match="not a WAV file"):
            SpeechSegmentationLearner().open(SampleRecord("s3://b/a.wav"), b"no sound")


def test_stretches_without_labels_are_suggested_confirmed_judged_and_grouped(
    tenant: Tenant, datasets: Datasets, bucket: str
) -> None:
    """What bears no label is found all the same: only the sound in which nobody speaks is hard for that reason."""
    known, new = TestSpeechSegmentation.made()
    files = {record.source.rpartition("/")[2]: (record, data) for record, data in [*known[:6], *new[:3]]}
    folder = f"s3://{bucket}/sounds/"
    tenant.objects.put_many({folder + name: data for name, (_, data) in files.items()})
    tenant.objects.put(f"{folder}silence.wav", wav(np.zeros(8 * RATE), np.random.default_rng(1)))
    datasets.create("talks", f"/{bucket}/out/", dataset_type=202)
    lines = [
        format_line(replace(record, source=folder + name, annotations=record.annotations if number < 6 else []))
        for number, (name, (record, _)) in enumerate(files.items())
    ]
    lines.append(format_line(SampleRecord(f"{folder}silence.wav")))
    tenant.objects.put(f"s3://{bucket}/talks.manifest", b"".join(lines))
    datasets.import_from("talks", f"s3://{bucket}/talks.manifest", import_type="manifest")

    assert datasets.auto_label("talks")["annotated_sample_count"] == 4
    found = {sample["sample_name"]: sample for sample in datasets.suggestions("talks")}
    assert {name for name, one in found.items() if "0" in one["hard_details"]} == {"silence.wav"}
    assert all(len(one["labels"]) == 4 for name, one in found.items() if name != "silence.wav")
    sources = {label["property"]["@modelarts:source"] for one in found.values() for label in one["labels"]}
    assert sources == {"Tom", "Jerry"}
    answer = datasets.confirm("talks", {one["sample_id"]: None for one in found.values()})
    assert answer["confirmed_sample_count"] == 3

    task = datasets.auto_label("talks", task_type="auto-grouping", n_clusters=2)
    groups = datasets.groups("talks", task["task_id"])
    assert [one["sample_count"] for one in groups] == [9, 1], "silence is unlike the talks"


def hits(found: Sequence[Sequence[Annotation]], truth: Sequence[Sequence[Annotation]], told: Any) -> float:
    """F1 of intervals: the same is told of them, and more than half of their joint time is common."""

    def span(one: Annotation) -> tuple[int, int]:
        given = one.property or {}
        return milliseconds(given[START]), milliseconds(given[END])

    def same(one: Annotation, other: Annotation) -> bool:
        (a, b), (c, d) = span(one), span(other)
        return told(one) == told(other) and 2 * max(0, min(b, d) - max(a, c)) >= max(b, d) - min(a, c)

    right = sum(
        any(same(one, true) for true in truths) for some, truths in zip(found, truth, strict=True) for one in some
    )
    return 2 * right / max(1, sum(map(len, found)) + sum(map(len, truth)))


WORDS = {
    "open": (700, 2200),
    "close": (2200, 700),
    "stop": (700, 700, 1500),
    "go on": (1500, 2600, 700),
}
"""What is said, as formants (Hz) that are gone through."""


class TestSpeechContent(Parts):
    learner, code, broken = SpeechContentLearner, 201, b"RIFF....WAVEfmt "
    KNOWN, NEW = 24, 16

    def told(self, one: Annotation) -> str:
        return str((one.property or {})["@modelarts:content"])

    @staticmethod
    def make(rng: np.random.Generator, number: int) -> Made:
        word = list(WORDS)[number % 4]
        said = [Annotation("audio_content", property={"@modelarts:content": word})]
        return SampleRecord(f"s3://bucket/{number}.wav", said), spoken(WORDS[word], rng)

    def test_what_was_never_said_before_gets_no_transcript(self) -> None:
        rng = np.random.default_rng(5)
        learner = SpeechContentLearner()
        known = [learner.open(record, data) for record, data in self.labeled()]
        strange = [wav(rng.normal(0, 0.3, RATE), rng), spoken((2600, 2600), rng), spoken((400, 3000, 400, 3000), rng)]
        new = [learner.open(SampleRecord("s3://b/n.wav"), data) for data in strange]
        answers = learner.suggest(lesson(known, [r.annotations for r, _ in self.labeled()], new, "audio_content"))
        assert answers.suggestions == [[]] * 3
        assert min(answers.uncertainty) == 1.0

    def test_where_nothing_is_said_twice_nothing_is_suggested(self) -> None:
        learner = SpeechContentLearner()
        opened = [learner.open(record, data) for record, data in self.labeled()]
        own = [[Annotation("audio_content", property={"@modelarts:content": f"text {n}"})] for n in range(12)]
        answers = learner.suggest(lesson(opened[:12], own, opened[12:], "audio_content"))
        assert not any(answers.suggestions)
        assert "words are not known here" in answers.method


def spoken(formants: Sequence[int], rng: np.random.Generator) -> bytes:
    """A word by a voice of some pitch and pace, with silence around."""
    seconds = float(rng.uniform(0.4, 0.8))
    moments = np.linspace(0, 1, round(seconds * RATE))
    path = np.interp(moments, np.linspace(0, 1, len(formants)), formants) * rng.uniform(0.95, 1.05)
    silence = [np.zeros(round(rng.uniform(0.05, 0.3) * RATE)) for _ in range(2)]
    return wav(np.concatenate([silence[0], voice(float(rng.uniform(100, 160)), seconds, path), silence[1]]), rng)


@pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV (of bottega[labeling]) is not installed")
class TestVideo(Parts):
    learner, code, broken = VideoLearner, 600, b"\x00\x00\x00\x18ftypmp42 and no more"
    KNOWN, NEW = 6, 4

    @staticmethod
    def make(rng: np.random.Generator, number: int) -> Made:
        """Twelve seconds: a ball rolls ("play") for some, then a green picture ("advert"); noise otherwise."""
        import cv2

        start, long, advert = rng.uniform(1, 3), rng.uniform(2, 3.5), rng.uniform(7, 8.5)
        rate = 8
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            out = cv2.VideoWriter(file.name, cv2.VideoWriter.fourcc(*"mp4v"), rate, (96, 64))
            for n in range(12 * rate):
                at = n / rate
                image = Image.fromarray(rng.normal(90, 10, (64, 96, 3)).clip(0, 255).astype(np.uint8))
                if start <= at < start + long:
                    x = 4 + (n * 9) % 70
                    ImageDraw.Draw(image).ellipse((x, 20, x + 24, 44), fill=(230, 230, 220))
                elif advert <= at < advert + 2:
                    image = Image.new("RGB", (96, 64), (30, 160, 60))
                out.write(np.asarray(image)[:, :, ::-1])
            out.release()
            data = Path(file.name).read_bytes()
        said = [
            Annotation("video_interval", name, {START: clock(begin), END: clock(begin + lasts)})
            for name, begin, lasts in (("play", start, long), ("advert", advert, 2.0))
        ]
        return SampleRecord(f"s3://bucket/{number}.mp4", said), data

    def test_intervals_lie_where_it_happens(self, running: RunningPlatform) -> None:
        ours = hits(self.answers(running).suggestions, self.truths(), self.told)
        whole = [[replace(one, property={START: clock(0), END: clock(12)}) for one in some] for some in self.truths()]
        assert ours >= 0.85 > hits(whole, self.truths(), self.told) + 0.3
        assert self.answers(running).accuracy is not None

    def test_labeled_frames_teach_no_intervals(self) -> None:
        learner = VideoLearner()
        opened = [learner.open(record, data) for record, data in self.labeled()]
        frame = Annotation("video_frame", "ball", {"@modelarts:time_in_video": 1.0})
        answers = learner.suggest(lesson(opened[:3], [[frame]] * 3, opened[3:], "video_interval"))
        assert not any(answers.suggestions)
        assert "frames are not learned" in answers.method
