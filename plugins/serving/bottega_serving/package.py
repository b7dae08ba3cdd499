"""The model package contract (002 §12): ``model/`` with ``config.json`` and, where needed, ``customize_service.py``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bottega.errors import Invalid

CONFIG = "config.json"
USER_CODE = "customize_service.py"
MODEL_TYPES = (
    "TensorFlow",
    "MXNet",
    "Spark_MLlib",
    "AutoModel",
    "Scikit_Learn",
    "XGBoost",
    "Image",
    "PyTorch",
    "Caffe",
    "MindSpore",
    "ONNX",
)
"""Table 12-1, the engines of 002 §12.1 and §11, and ONNX."""

_RUNTIME = re.compile(r"python3\.[0-9]+|[A-Za-z][\w.-]{0,127}")
_VERSION = re.compile(r"[0-9][\w.+!-]*")


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True, defer_build=True)


class Metrics(_Part):
    """Table 12-2. Numbers longer than 17 decimal places keep the first 17 (a float holds no more)."""

    f1: float | None = None
    recall: float | None = None
    precision: float | None = None
    accuracy: float | None = None


class Message(_Part):
    """Tables 12-4 and 12-5. `data` is a JSON Schema, as an object, a list of one (as the guide's second example), or
    text."""

    content_type: str = Field(alias="Content-type")
    data: dict[str, Any] | list[Any] | str

    @model_validator(mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        # The guide writes Content-type, its users Content-Type as well.
        if isinstance(value, dict):
            return {("Content-type" if key.lower() == "content-type" else key): item for key, item in value.items()}
        return value

    def schema_object(self) -> dict[str, Any]:
        data: Any = self.data
        if isinstance(data, str):
            try:
                data = orjson.loads(data)
            except orjson.JSONDecodeError:
                return {}
        if isinstance(data, list):
            data = data[0] if data else {}
        return data if isinstance(data, dict) else {}


class Api(_Part):
    """Table 12-3."""

    protocol: Literal["http", "https", "HTTP", "HTTPS"]
    url: str
    method: Literal["post", "get", "put", "delete", "patch", "POST", "GET", "PUT", "DELETE", "PATCH"]
    request: Message
    response: Message

    @field_validator("url")
    @classmethod
    def _rooted(cls, url: str) -> str:
        if not re.fullmatch(r"/[\w./-]*", url) or ".." in url:
            raise ValueError(f"'{url}' is not a path; write / or /name")
        return url


class Package(_Part):
    """Table 12-7."""

    package_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    package_version: str = ""
    restraint: Literal["EXACT", "ATLEAST", "ATMOST", ""] = ""

    @model_validator(mode="after")
    def _together(self) -> Package:
        if self.package_version and not self.restraint:
            raise ValueError("restraint must be EXACT, ATLEAST or ATMOST where package_version is given")
        if self.package_version and not _VERSION.fullmatch(self.package_version):
            raise ValueError(f"package_version '{self.package_version}' is not a version")
        return self

    @property
    def requirement(self) -> str:
        """As pip writes it."""
        sign = {"EXACT": "==", "ATLEAST": ">=", "ATMOST": "<="}.get(self.restraint, "")
        return f"{self.package_name}{sign}{self.package_version}" if self.package_version else self.package_name


class Dependency(_Part):
    """Table 12-6."""

    installer: Literal["pip"]
    packages: list[Package]


class Health(_Part):
    """The health check of a model's own image (rest_api, ModelHealth)."""

    url: str = "/health"
    check_method: str = "HTTP"
    protocol: str = "http"
    command: str = ""
    initial_delay_seconds: int | str = 0
    timeout_seconds: int | str = 10
    period_seconds: int | str = 10
    failure_threshold: int | str = 3


class ImageInput(_Part):
    """How a picture becomes an input: resized to `size` (width, height), then ``(pixel * scale - mean) / std``."""

    model_config = ConfigDict(extra="forbid")
    input: str = ""
    """Name of the model's input; the only one where empty."""
    mode: Literal["L", "RGB"] = "RGB"
    size: tuple[int, int]
    scale: float = 1 / 255
    mean: list[float] | float = 0.0
    std: list[float] | float = 1.0
    layout: Literal["NCHW", "NHWC"] = "NCHW"


class Extension(_Part):
    """What this platform adds to the contract, under ``bottega`` of ``config.json``.

    `labels` names the classes in the order of the model's first output; `images` says which request fields are
    pictures and how they become inputs, so that a model of pictures needs no code of its own.
    """

    model_config = ConfigDict(extra="forbid")
    labels: list[str] = []
    images: dict[str, ImageInput] = {}


class ModelConfig(_Part):
    """``config.json`` (tables 12-1 to 12-7)."""

    model_algorithm: str = Field(min_length=1)
    model_type: str
    runtime: str | None = None
    swr_location: str | None = None
    metrics: Metrics = Metrics()
    apis: list[Api] = Field(min_length=1)
    dependencies: list[Dependency] = []
    health: Health | None = None
    bottega: Extension = Extension()

    @field_validator("model_type")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in MODEL_TYPES:
            raise ValueError(f"'{value}' is none of {', '.join(MODEL_TYPES)}")
        return value

    @field_validator("runtime")
    @classmethod
    def _runnable(cls, value: str | None) -> str | None:
        if value == "python2.7":
            raise ValueError("python2.7 is not offered; write python3.6 or newer, or leave it out")
        if value and not _RUNTIME.fullmatch(value):
            raise ValueError(f"'{value}' is not a runtime; write for example python3.6")
        return value

    @model_validator(mode="after")
    def _image(self) -> ModelConfig:
        if self.model_type == "Image" and not self.swr_location:
            raise ValueError("swr_location is required where model_type is Image")
        return self

    def methods(self) -> dict[str, frozenset[str]]:
        """The HTTP methods of each declared path."""
        found: dict[str, set[str]] = {}
        for api in self.apis:
            found.setdefault(api.url, set()).add(api.method.upper())
        return {url: frozenset(methods) for url, methods in found.items()}

    def row_columns(self) -> tuple[list[str], str]:
        """The fields of a ``req_data`` row in their order, and the name of the result in a ``resp_data`` row."""
        for api in self.apis:
            columns = _row_fields(api.request.schema_object(), "req_data")
            if columns:
                results = [n for n in _row_fields(api.response.schema_object(), "resp_data") if n not in columns]
                return columns, results[0] if results else "predictresult"
        return [], "predictresult"


def _row_fields(schema: dict[str, Any], key: str) -> list[str]:
    found: Any = schema
    for step in ("properties", "data", "properties", key, "items"):
        found = found.get(step) if isinstance(found, dict) else None
    if isinstance(found, list):
        found = found[0] if found else None
    properties = found.get("properties") if isinstance(found, dict) else None
    return list(properties) if isinstance(properties, dict) else []


def parse_config(text: str | bytes) -> ModelConfig:
    """Raises Invalid that names every mistake and where it is."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        raise Invalid(f"{CONFIG} is not JSON: {problem}") from None
    return check_config(document)


def check_config(document: Any) -> ModelConfig:
    """The same for what is parsed already."""
    if not isinstance(document, dict):
        raise Invalid(f"{CONFIG} must be a JSON object with model_algorithm, model_type and apis (table 12-1)")
    try:
        return ModelConfig.model_validate(document)
    except ValidationError as wrong:
        problems = [
            f"{'.'.join(map(str, p['loc'])) or 'the whole'}: {p['msg'].removeprefix('Value error, ')}"
            for p in wrong.errors()
        ]
        raise Invalid(f"{CONFIG}: " + "; ".join(problems)) from None


def check_layout(names: Iterable[str], location: str) -> None:
    """Check the file names of a package, relative to its ``model/`` folder.

    Raises Invalid for one without files, with no ``config.json`` or with ``customize_service.py`` in the wrong place.
    """
    names = list(names)
    if not names:
        raise Invalid(f"there is no folder 'model' with files in {location}; a package is <name>/model/... (002 §12.1)")
    for single in (CONFIG, USER_CODE):
        places = [name for name in names if name.rpartition("/")[2] == single]
        if len(places) > 1 and single in places:
            raise Invalid(f"the package has {len(places)} files {single}; only model/{single} is allowed")
        if places and single not in places:
            raise Invalid(f"{single} must lie directly in model/, not at model/{places[0]}")
    if CONFIG not in names:
        raise Invalid(f"model/{CONFIG} is missing in {location}")
    if set(names) <= {CONFIG, USER_CODE}:
        raise Invalid(f"model/ in {location} holds no model file")
