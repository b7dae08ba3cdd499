"""Request bodies to named arrays and named arrays to answers, in the modes of the guide (002 §6.7.3, §7.2.4).

============== ====================================================== =============================================
mode           request                                                answer
============== ====================================================== =============================================
by name        ``{"input": [[1, 2]]}``                                ``{"output": [[0.1, 0.9]]}``
rows           ``{"data": {"req_data": [{"a": 1, "b": 2}]}}``         ``{"data": {"resp_data": [{"a": 1, "b": 2,
                                                                      "predictresult": 0}]}}``
picture        form field ``images``, or the same name with base64    ``{"predicted_label", "scores"}`` with labels
                                                                      declared, else by name
============== ====================================================== =============================================

``meta.uuid`` of a JSON request comes back in the answer.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bottega.errors import Invalid
from bottega_serving.inference.multipart import parse_form
from bottega_serving.inference.session import Field
from bottega_serving.package import ModelConfig

_KINDS = {"float": "iuf", "int": "iu", "uint": "iu", "bool": "b", "str": "U"}
_TOP_SCORES = 5


@dataclass(slots=True)
class Work:
    """A decoded request: arrays for the model, and what the answer needs to know. `samples` is the first axis."""

    arrays: dict[str, NDArray[Any]]
    samples: int
    uuid: str | None = None
    rows: list[dict[str, Any]] | None = None
    picture: bool = False


class Codec:
    """The request and answer forms of one model."""

    def __init__(self, inputs: Sequence[Field], config: ModelConfig) -> None:
        self._inputs = {field.name: field for field in inputs}
        self._images = config.bottega.images
        self._labels = config.bottega.labels
        self._columns, self._result = config.row_columns()

    def decode(self, body: bytes, content_type: str) -> Work:
        """Raises Invalid, naming the field, for a body the model cannot take."""
        if content_type.startswith("multipart/form-data"):
            return self._form(body, content_type)
        document = parse_json(body)
        meta = document.get("meta")
        uuid = meta.get("uuid") if isinstance(meta, dict) else None
        data = document.get("data")
        if isinstance(data, dict) and "req_data" in data and "data" not in self._inputs:
            return self._rows(data["req_data"], uuid)
        if self._images and any(name in document for name in self._images):
            return self._encoded_picture(document, uuid)
        arrays = {}
        for name, field in self._inputs.items():
            if name not in document:
                raise Invalid(f"input '{name}' is missing; the model takes {self._signature()}")
            arrays[name] = _array(document[name], field)
        return Work(arrays, _samples(arrays), uuid)

    def encode(self, work: Work, outputs: Mapping[str, Any]) -> bytes:
        """The answer of one request; `outputs` holds its own samples only."""
        answer: dict[str, Any]
        if work.rows is not None:
            results = _per_sample(next(iter(outputs.values())), self._labels)
            resp_data = [{**row, self._result: value} for row, value in zip(work.rows, results, strict=True)]
            return orjson.dumps({"meta": {"uuid": work.uuid or ""}, "data": {"resp_data": resp_data}})
        if work.picture and self._labels:
            answer = self._classified(np.asarray(next(iter(outputs.values())), np.float64).reshape(-1))
        else:
            answer = dict(outputs)
        if work.uuid is not None:
            answer["meta"] = {"uuid": work.uuid}
        return orjson.dumps(answer, default=_listed, option=orjson.OPT_SERIALIZE_NUMPY)

    def _form(self, body: bytes, content_type: str) -> Work:
        arrays: dict[str, NDArray[Any]] = {}
        for part in parse_form(body, content_type):
            if part.field in self._images:
                arrays[self._images[part.field].input or self._only_input()] = self._picture(part.content, part.field)
            elif part.field in self._inputs and part.file_name is None:
                arrays[part.field] = _array(_loads(part.content, part.field), self._inputs[part.field])
            else:
                known = ", ".join([*self._images, *self._inputs])
                raise Invalid(
                    f"form field '{part.field}' is none of the model's ({known}); pictures need an entry under "
                    "bottega.images of config.json, or a customize_service.py"
                )
        missing = [name for name in self._inputs if name not in arrays]
        if missing:
            raise Invalid(f"input '{missing[0]}' is missing; the model takes {self._signature()}")
        return Work(arrays, _samples(arrays), picture=True)

    def _encoded_picture(self, document: dict[str, Any], uuid: str | None) -> Work:
        arrays: dict[str, NDArray[Any]] = {}
        for name, spec in self._images.items():
            text = document.get(name)
            if not isinstance(text, str):
                raise Invalid(f"'{name}' must be a picture, as a file in a form or as base64 text")
            try:
                content = base64.b64decode(text, validate=True)
            except ValueError as problem:  # of which binascii.Error is one; what is not ASCII is another
                raise Invalid(f"'{name}' is not base64: {problem}") from problem
            arrays[spec.input or self._only_input()] = self._picture(content, name)
        return Work(arrays, 1, uuid, picture=True)

    def _picture(self, content: bytes, field: str) -> NDArray[Any]:
        from bottega_serving.inference.images import to_array  # only packages with pictures need Pillow

        return to_array(content, self._images[field], field)

    def _rows(self, rows: Any, uuid: Any) -> Work:
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise Invalid("data.req_data must be a list of at least one object")
        arrays = {}
        for name, field in self._inputs.items():
            columns = [name] if len(self._inputs) > 1 or not self._columns else self._columns
            try:
                values = [[row[column] for column in columns] for row in rows]
            except KeyError as missing:
                known = ", ".join(columns)
                raise Invalid(f"data.req_data: a row lacks {missing}; each needs {known}") from None
            # A column of its own may be (N) or (N, 1); several columns are (N, columns).
            flat = field.shape is not None and len(field.shape) == 1
            arrays[name] = _array([row[0] for row in values] if flat else values, field)
        return Work(arrays, len(rows), uuid if isinstance(uuid, str) else None, rows)

    def _classified(self, scores: NDArray[Any]) -> dict[str, Any]:
        if (scores < 0).any() or abs(scores.sum() - 1) > 1e-3:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        best = np.argsort(-scores)[:_TOP_SCORES]
        labels = self._labels
        return {
            "predicted_label": labels[best[0]],
            "scores": [[labels[i], float(scores[i])] for i in best],
        }

    def _only_input(self) -> str:
        return next(iter(self._inputs))

    def _signature(self) -> str:
        return ", ".join(f"{f.name}: {f.dtype}{_shown(f.shape)}" for f in self._inputs.values())


def parse_json(body: bytes) -> dict[str, Any]:
    """Raises Invalid for what is no JSON object."""
    document = _loads(body, "the body")
    if not isinstance(document, dict):
        raise Invalid('the body must be a JSON object, such as {"input": [[1, 2]]}')
    return document


def _loads(body: bytes, what: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise Invalid(f"{what} is not JSON: {problem}") from None


def _array(value: Any, field: Field) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        raise Invalid(f"input '{field.name}' is ragged; the model takes {_shown(field.shape)}") from None
    kind = field.dtype.rstrip("0123456789")
    if array.dtype.kind not in _KINDS.get(kind, "iuf"):
        raise Invalid(f"input '{field.name}' holds values that are not of type {field.dtype}")
    if field.shape is not None and not _fits(array.shape, field.shape):
        raise Invalid(f"input '{field.name}' has shape {list(array.shape)}; the model takes {_shown(field.shape)}")
    if array.ndim and not array.shape[0]:
        raise Invalid(f"input '{field.name}' is empty")
    return array.astype(object if kind == "str" else field.dtype)


def _fits(have: Sequence[int], want: Sequence[int | None]) -> bool:
    return len(have) == len(want) and all(w is None or w == h for w, h in zip(want, have, strict=True))


def _samples(arrays: Mapping[str, NDArray[Any]]) -> int:
    """The common length of the first axes; 0 when they differ, and such a request never shares a run."""
    sizes = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    return sizes.pop() if len(sizes) == 1 else 0


def _per_sample(output: Any, labels: Sequence[str]) -> list[Any]:
    """What a row's result is: a label's name, a single value, or all values of the sample."""
    if isinstance(output, np.ndarray) and output.ndim >= 2:
        if labels and output.shape[-1] == len(labels):
            return [labels[i] for i in output.reshape(len(output), -1).argmax(1)]
        if output.size == len(output):
            output = output.reshape(-1)
    values = output.tolist() if isinstance(output, np.ndarray) else list(output)
    if labels and all(isinstance(v, int) and 0 <= v < len(labels) for v in values):
        return [labels[v] for v in values]
    return values


def _shown(shape: Sequence[int | None] | None) -> str:
    if shape is None:
        return ""
    return "[" + ", ".join("N" if size is None else str(size) for size in shape) + "]"


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")
