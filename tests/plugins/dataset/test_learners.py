"""The learners that come with the plugin keep their contract."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image, ImageDraw

from bottega.testing import RunningPlatform
from bottega_dataset.learner_conformance import LearnerContract
from bottega_dataset.learners.image import ImageLearner
from bottega_dataset.learners.named_entity import NamedEntityLearner
from bottega_dataset.learners.object_detection import ObjectDetectionLearner
from bottega_dataset.learners.sound import SoundLearner
from bottega_dataset.learners.table import TableLearner
from bottega_dataset.learners.text import TextLearner
from bottega_dataset.learning.backbone import CannotExtract
from bottega_dataset.sample import Annotation, SampleRecord

LABELED, UNLABELED = 8, 10


class Classes(LearnerContract):
    """Synthetic samples of two labels; `make` gives source and bytes of one."""

    annotation_type: str
    labels = ("first", "second")

    def make(self, label: str, rng: np.random.Generator, number: int) -> tuple[str, bytes]:
        raise NotImplementedError

    def labeled(self) -> Sequence[tuple[SampleRecord, bytes]]:
        rng = np.random.default_rng(0)
        found = []
        for number in range(2 * LABELED):
            label = self.labels[number % 2]
            source, data = self.make(label, rng, number)
            found.append((SampleRecord(source, [Annotation(self.annotation_type, label)]), data))
        return found

    def unlabeled(self) -> Sequence[tuple[SampleRecord, bytes, set[str]]]:
        rng = np.random.default_rng(1)
        found = []
        for number in range(2 * UNLABELED):
            label = self.labels[number % 2]
            source, data = self.make(label, rng, 100 + number)
            found.append((SampleRecord(source), data, {label}))
        return found


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


class TestImages(Classes):
    learner, code, annotation_type, broken = ImageLearner, 0, "image_classification", b"\x89PNG\r\n\x1a\n and no more"

    def make(self, label: str, rng: np.random.Generator, number: int) -> tuple[str, bytes]:
        """Stripes down or across."""
        stripes = np.zeros((40, 40)) + 200 * (np.arange(40) // rng.integers(3, 6) % 2)
        pixels = (stripes if label == "first" else stripes.T) + rng.normal(0, 20, (40, 40))
        return f"s3://bucket/{number}.png", png(np.clip(pixels, 0, 255))


class TestTexts(Classes):
    learner, code, annotation_type, broken = TextLearner, 100, "text_classification", b"\xff\xfe\xff"

    def make(self, label: str, rng: np.random.Generator, number: int) -> tuple[str, bytes]:
        words = ["apple", "pear", "plum", "fig"] if label == "first" else ["hammer", "saw", "drill", "file"]
        text = f"the {' and the '.join(rng.choice(words, 2, replace=False))} {number}"
        return f"content://{text}", text.encode()


class TestTables(Classes):
    learner, code, annotation_type, broken = TableLearner, 400, "table", b"[1, 2"

    def make(self, label: str, rng: np.random.Generator, number: int) -> tuple[str, bytes]:
        """One number and one category tell; others do not, and some cells are missing."""
        row = {"a": rng.normal(0 if label == "first" else 3), "b": rng.normal(), "c": "x" if number % 3 else None}
        row["d"] = "red" if (label == "first") == (rng.random() < 0.9) else "blue"
        text = json.dumps(row)
        return f"content://{text}", text.encode()


class TestSounds(Classes):
    learner, code, annotation_type, broken = SoundLearner, 200, "audio_classification", b"RIFF....WAVEfmt "

    def make(self, label: str, rng: np.random.Generator, number: int) -> tuple[str, bytes]:
        """A tone, or noise; of different rates and widths."""
        rate = (8000, 16000, 22050)[number % 3]
        moments = np.arange(rate // 2) / rate
        heard = (
            np.sin(2 * np.pi * rng.uniform(200, 900) * moments)
            if label == "first"
            else rng.normal(0, 0.4, len(moments))
        )
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, rate, 0, "NONE", ""))
            out.writeframes((np.clip(heard, -1, 1) * 20000).astype("<i2").tobytes())
        return f"s3://bucket/{number}.wav", file.getvalue()


PEOPLE = ["Anna", "Bernd", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Klara", "Lukas", "Nils"]
PLACES = ["Berlin", "Bonn", "Bremen", "Essen", "Fulda", "Gera", "Halle", "Jena", "Kassel", "Mainz", "Passau", "Trier"]


class TestNamedEntities(LearnerContract):
    learner, code, broken = NamedEntityLearner, 101, b"\xff\xfe\xff"

    def text(self, rng: np.random.Generator, who: list[str], where: list[str]) -> tuple[str, list[Annotation]]:
        """A synthetic sentence with a person, a place, or both; what they are is said by the words around them."""
        parts, said = ["Yesterday"], []
        for label, names, forms in (
            ("person", who, ("Mrs {} said so", "Mr {} was late", "we asked Mr {} again")),
            ("place", where, ("trains to {} stopped", "it rained in {} all day", "he lives in {} now")),
        ):
            if rng.random() < 0.7:
                name, form = str(rng.choice(names)), str(rng.choice(forms))
                start = len(" ".join(parts)) + 1 + form.index("{")
                parts.append(form.format(name))
                place = {"@modelarts:start_index": start, "@modelarts:end_index": start + len(name)}
                said.append(Annotation("text_entity", label, place))
        return " ".join(parts) + ".", said

    def labeled(self) -> Sequence[tuple[SampleRecord, bytes]]:
        rng = np.random.default_rng(0)
        made = [self.text(rng, PEOPLE[:9], PLACES[:9]) for _ in range(30)]
        return [(SampleRecord(f"content://{text}", said), text.encode()) for text, said in made]

    def unlabeled(self) -> Sequence[tuple[SampleRecord, bytes, set[str]]]:
        rng = np.random.default_rng(1)
        made = [self.text(rng, PEOPLE[9:], PLACES[9:]) for _ in range(20)]
        return [(SampleRecord(f"content://{t}"), t.encode(), {a.name for a in said}) for t, said in made]

    def test_it_finds_names_it_has_never_seen_to_the_character(self) -> None:
        rng = np.random.default_rng(2)
        lesson = self.lesson("text_entity")
        texts = [self.text(rng, PEOPLE[9:], PLACES[9:]) for _ in range(20)]
        new = replace(lesson, unlabeled=[text for text, _ in texts])
        found = NamedEntityLearner().suggest(new).suggestions
        assert {(a.name, str(a.property)) for some in found for a in some} == {
            (a.name, str(a.property)) for _, some in texts for a in some
        }


class TestObjectDetection(LearnerContract):
    learner, code, broken = ObjectDetectionLearner, 1, b"GIF89a"

    def picture(self, rng: np.random.Generator) -> tuple[bytes, list[Annotation]]:
        """A synthetic picture: a square on the left, a disc on the right, or both, before noise."""
        image = Image.fromarray(rng.normal(90, 25, (64, 128, 3)).clip(0, 255).astype(np.uint8))
        said = []
        for label, left, draw in (("square", 0, "rectangle"), ("disc", 64, "ellipse")):
            if rng.random() < 0.7:
                size = int(rng.integers(26, 32))
                x, y = left + int(rng.integers(0, 64 - size)), int(rng.integers(0, 64 - size))
                getattr(ImageDraw.Draw(image), draw)((x, y, x + size, y + size), fill=(220, 220, 210))
                corners = [[x, y], [x + size, y + size]]
                drawn = {"@modelarts:shape": "bndbox", "@modelarts:feature": corners}
                said.append(Annotation("object_detection", label, drawn))
        return png(image), said

    def labeled(self) -> Sequence[tuple[SampleRecord, bytes]]:
        rng = np.random.default_rng(0)
        made = [self.picture(rng) for _ in range(10)]
        return [(SampleRecord("s3://bucket/a.png", said), data) for data, said in made if said]

    def unlabeled(self) -> Sequence[tuple[SampleRecord, bytes, set[str]]]:
        rng = np.random.default_rng(1)
        made = [self.picture(rng) for _ in range(6)]
        return [(SampleRecord("s3://bucket/b.png"), data, {a.name for a in said}) for data, said in made]

    def test_boxes_have_half_of_the_joint_area_in_common_with_the_objects(self, running: RunningPlatform) -> None:
        rng = np.random.default_rng(1)
        truths = [self.picture(rng)[1] for _ in range(6)]
        answers = self.answers(running)
        right = said = there = 0
        for found, truth in zip(answers.suggestions, truths, strict=True):
            right += sum(any(one.name == true.name and shared(one, true) >= 0.5 for true in truth) for one in found)
            said, there = said + len(found), there + len(truth)
        assert 2 * right / (said + there) >= 0.9
        assert answers.accuracy is not None
        assert answers.accuracy >= 0.7, "what it measured itself is of the same kind"


def shared(one: Annotation, other: Annotation) -> float:
    """Common by joint area of two boxes."""
    some, others = (np.array((a.property or {})["@modelarts:feature"], float) for a in (one, other))
    common = np.prod(np.maximum(0, np.minimum(some[1], others[1]) - np.maximum(some[0], others[0])))
    return float(common / (np.prod(some[1] - some[0]) + np.prod(others[1] - others[0]) - common))


def mean_of_colors(kind: str, folder: Path) -> str:
    """A feature extractor whose features are the means of the three colors."""
    if kind == "onnx":
        graph = helper.make_graph(
            [helper.make_node("GlobalAveragePool", ["x"], ["y"])],
            "means",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 1, 1])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
        (folder / "means.onnx").write_bytes(model.SerializeToString())
        return str(folder / "means.onnx")
    import torch

    torch.jit.save(torch.jit.script(torch.nn.AdaptiveAvgPool2d(1)), folder / "means.pt")
    return str(folder / "means.pt")


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_the_operators_own_backbone_gives_the_features(kind: str, tmp_path: Path) -> None:
    colors = [(255, 0, 0), (0, 51, 102)]
    learner = ImageLearner()
    record = SampleRecord("s3://bucket/a.png")
    opened = [learner.open(record, png(np.full((20, 30, 3), color))) for color in colors]
    found = learner.features(opened, mean_of_colors(kind, tmp_path))
    assert np.allclose(found, np.array(colors) / 255, atol=1e-3)
    with pytest.raises(CannotExtract, match="is not a file on this machine"):
        learner.features(opened, str(tmp_path / "none.onnx"))
