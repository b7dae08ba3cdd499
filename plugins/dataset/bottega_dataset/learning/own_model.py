"""A model of the user's at work on samples: an ONNX package (002 §12: ``config.json`` beside the ``.onnx`` file).

What it takes is known by its input: texts (a tensor of strings), pictures (``bottega.images`` of its configuration says
how), rows of numbers (tables, features of sounds). What it says is known by its outputs: boxes in the vendor's names
(``detection_boxes`` as [y1, x1, y2, x2], ``detection_classes``, ``detection_scores``), or a score a label.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.learner import Answers
from bottega_dataset.learning.images import decode
from bottega_dataset.sample import Annotation, BadSample, SampleRecord

PRE_LABELING = "modelarts/pre-labeling"
_LEAST_BOX = 0.3
"""Boxes of less confidence are left out."""
_BOXES = ("detection_boxes", "detection_classes", "detection_scores")


class BadModel(Exception):
    """The model cannot say anything about these samples; the message says why."""


class OwnModel:
    """:param folder: holds ``config.json`` and one ``.onnx`` file."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
        except FileNotFoundError:
            config = {}
        except ValueError as e:
            raise BadModel(f"config.json of the model is not JSON: {e}") from e
        self._settings = config.get("bottega") or {}
        self._labels = [str(one) for one in self._settings.get("labels") or ()]
        files = sorted(folder.glob("*.onnx"))
        if len(files) != 1:
            held = ", ".join(sorted(f.name for f in folder.iterdir())) or "nothing"
            raise BadModel(f"the model's folder must hold one .onnx file; it holds {held}")
        try:
            self._session = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
        except Exception as e:  # the runtime's exceptions share no base class of their own
            raise BadModel(f"{files[0].name} is not an ONNX model that can run: {str(e).splitlines()[0]}") from e
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise BadModel(f"the model must have one input; it has {', '.join(i.name for i in inputs)}")
        self._input = inputs[0]

    def said(self, record: SampleRecord, data: bytes, annotation_type: str) -> list[Annotation]:
        """What it says of a sample. Raises BadSample for one it cannot take, BadModel when it fits none."""
        row, size = self._row(record, data)
        return self._one(row, size, annotation_type)

    def _row(self, record: SampleRecord, data: bytes) -> tuple[NDArray[Any], tuple[int, int]]:
        kind = self._input.type
        if kind == "tensor(string)":
            text = np.array([data.decode("utf-8", "replace")], dtype=object)
            return (text if len(self._input.shape) == 1 else text[:, None]), (0, 0)
        images = self._settings.get("images") or {}
        if images:
            return self._picture(next(iter(images.values())), data, record.source)
        if len(self._input.shape) == 4:
            height, width = self._input.shape[2:]
            if not (isinstance(height, int) and isinstance(width, int)):
                raise BadModel("config.json must say under bottega.images how pictures become the model's input")
            mode = "L" if self._input.shape[1] == 1 else "RGB"
            return self._picture({"mode": mode, "size": [width, height]}, data, record.source)
        try:
            row = json.loads(data)
        except ValueError as e:
            raise BadSample(f"{record.source[:80]} is no row of numbers for the model") from e
        columns = self._settings.get("columns") or sorted(row)
        try:
            values = [float(row[column]) for column in columns]
        except (KeyError, TypeError, ValueError) as e:
            raise BadSample(f"{record.source[:80]}: the model takes a number for each of {', '.join(columns)}") from e
        return np.array([values], np.float32), (0, 0)

    def _picture(self, spec: dict[str, Any], data: bytes, name: str) -> tuple[NDArray[Any], tuple[int, int]]:
        from PIL import Image

        image = decode(data, name, spec.get("mode", "RGB"))
        width, height = spec["size"]
        pixels: NDArray[Any] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
        pixels = pixels.reshape(height, width, -1) * np.float32(spec.get("scale", 1 / 255))
        pixels = (pixels - np.asarray(spec.get("mean", 0), np.float32)) / np.asarray(spec.get("std", 1), np.float32)
        if spec.get("layout", "NCHW") == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels[None], np.float32), image.size

    def _one(self, row: NDArray[Any], size: tuple[int, int], annotation_type: str) -> list[Annotation]:
        names = [one.name for one in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(None, {self._input.name: row}), strict=True))
        if all(name in outputs for name in _BOXES):
            boxes, classes, scores = (np.asarray(outputs[name]) for name in _BOXES)
            return self._boxes(boxes, classes, scores, size, annotation_type)
        return self._label(list(outputs.values()), annotation_type)

    def _boxes(self, boxes: Any, classes: Any, scores: Any, size: Any, annotation_type: str) -> list[Annotation]:
        boxes, classes, scores = boxes.reshape(-1, 4), classes.reshape(-1), scores.reshape(-1)
        width, height = size if boxes.size and boxes.max() <= 1.5 else (1, 1)  # else they are pixels already
        found = []
        for (top, left, bottom, right), label, score in zip(boxes, classes, scores, strict=True):
            if score < _LEAST_BOX:
                continue
            corners = [[round(float(x) * width), round(float(y) * height)] for x, y in ((left, top), (right, bottom))]
            said = {"@modelarts:shape": "bndbox", "@modelarts:feature": corners}
            found.append(self._said(annotation_type, self._name(label), score, said))
        return found

    def _label(self, outputs: list[Any], annotation_type: str) -> list[Annotation]:
        first, last = outputs[0], outputs[-1]
        if isinstance(last, list) and last and isinstance(last[0], dict):  # a map of scores by label (skl2onnx)
            label, score = max(last[0].items(), key=lambda one: one[1])
            return [self._said(annotation_type, self._name(label), score)]
        scores = np.asarray(last, np.float64).reshape(-1)
        if len(outputs) > 1 and np.asarray(first).size == 1 and scores.size > 1:
            return [self._said(annotation_type, self._name(np.asarray(first).reshape(-1)[0]), scores.max())]
        if self._labels and len(scores) != len(self._labels):
            raise BadModel(f"the model gives {len(scores)} scores; config.json names {len(self._labels)} labels")
        if (scores < 0).any() or abs(scores.sum() - 1) > 1e-3:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        return [self._said(annotation_type, self._name(int(scores.argmax())), scores.max())]

    def _name(self, label: Any) -> str:
        if isinstance(label, bytes | str):
            return label.decode() if isinstance(label, bytes) else label
        number = int(label)
        if self._labels and not 0 <= number < len(self._labels):
            raise BadModel(f"the model says label {number}; config.json names {len(self._labels)} labels")
        return self._labels[number] if self._labels else str(number)

    def _said(self, kind: str, name: str, score: Any, said: dict[str, Any] | None = None) -> Annotation:
        confidence = round(min(1.0, max(0.0, float(score))), 4)
        return Annotation(kind, name, said, annotated_by=PRE_LABELING, confidence=confidence)


def as_answers(said: Sequence[Sequence[Annotation]], accuracy: float | None) -> Answers:
    """With the doubt about the least confident thing it said as what a label by hand would teach."""
    doubts = [1.0 - min((one.confidence or 0.0 for one in some), default=0.0) for some in said]
    return Answers(said, doubts, accuracy, "a model of one's own")


def agreement(said: Sequence[Sequence[Annotation]], known: Sequence[Sequence[Annotation]]) -> float | None:
    """The part of samples with hand labels of which it says just these labels; None without such samples."""
    if not known:
        return None
    equal = [{a.name for a in one} == {b.name for b in other} for one, other in zip(said, known, strict=True)]
    return sum(equal) / len(equal)
