"""Packages with ``customize_service.py``: finding the user's class, and calling it as the guide says (002 §12.3)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement

from bottega.errors import ApiError, Invalid
from bottega_serving.inference.codec import parse_json
from bottega_serving.inference.engine import Answer, ModelError
from bottega_serving.inference.multipart import parse_form
from bottega_serving.inference.session import LoadFailure, Session
from bottega_serving.package import USER_CODE, ModelConfig
from bottega_serving.worker.base_service import BaseService, install_modules

_WEIGHTS = (".pth", ".pt", ".pt2", ".onnx")


class UserEngine:
    """Calls ``_preprocess``, ``_inference`` and ``_postprocess`` of the user's service for one request after the other.

    A form reaches ``_preprocess`` as ``{field: {file name: file}}``, JSON as it is; ``meta.uuid`` comes back where the
    answer is an object.
    """

    def __init__(self, service: Any) -> None:
        self._service = service

    def decode(self, body: bytes, content_type: str) -> Any:
        if not content_type.startswith("multipart/form-data"):
            return parse_json(body)
        data: dict[str, Any] = {}
        for part in parse_form(body, content_type):
            if part.file_name is None:
                data[part.field] = part.content.decode("utf-8", "replace")
                continue
            files = data.setdefault(part.field, {})
            if not isinstance(files, dict):
                raise Invalid(f"form field '{part.field}' is both a file and a text")
            files[part.file_name] = io.BytesIO(part.content)
        return data

    def answer(self, works: Sequence[Any]) -> list[Answer]:
        return [self._answer(data) for data in works]

    def _answer(self, data: Any) -> Answer:
        meta = data.get("meta") if isinstance(data, dict) else None
        uuid = meta.get("uuid") if isinstance(meta, dict) else None
        try:
            result = self._service.inference(data)
            if uuid is not None and isinstance(result, dict):
                result.setdefault("meta", {"uuid": uuid})
            return json.dumps(result, default=_plain, ensure_ascii=False).encode()
        except ApiError as problem:
            return problem
        except Exception as problem:  # whatever the user's code raises is told to its caller
            return ModelError(f"{USER_CODE}: {type(problem).__name__}: {problem}")


def load_service(name: str, folder: Path, session: Session | None) -> Any:
    """Make the user's service of the package in `folder`. Raises LoadFailure."""
    sys.path.insert(0, str(folder))
    install_modules()
    BaseService.session = session
    module = _import(folder / USER_CODE)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseService) and value.__module__ == module.__name__
    ]
    # Of a class and its subclasses the most derived one is the service.
    leaves = [cls for cls in found if not any(other is not cls and issubclass(other, cls) for other in found)]
    if len(leaves) != 1:
        raise LoadFailure(
            f"{USER_CODE} must define one class that derives from a base of table 12-8; it defines {len(leaves)}"
        )
    weights = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHTS)
    model_path = weights[0] if len(weights) == 1 else folder
    try:
        return leaves[0](name, str(model_path))
    except Exception as problem:  # whatever the user's code raises is the reason
        raise LoadFailure(f"{USER_CODE}: {type(problem).__name__}: {problem}") from problem


def check_dependencies(config: ModelConfig) -> None:
    """Raises LoadFailure that names each declared package this installation lacks or has in another version."""
    missing = []
    for dependency in config.dependencies:
        for package in dependency.packages:
            requirement = Requirement(package.requirement)
            try:
                installed = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                missing.append(f"{requirement} (not installed)")
                continue
            if not requirement.specifier.contains(installed, prereleases=True):
                missing.append(f"{requirement} (installed: {installed})")
    if missing:
        raise LoadFailure(
            f"dependencies of config.json are not met: {', '.join(missing)}; install them where workloads run"
        )


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("customize_service", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:  # whatever the user's code raises is the reason
        raise LoadFailure(f"{USER_CODE}: {type(problem).__name__}: {problem}") from problem
    return module


def _plain(value: Any) -> Any:
    """The JSON form of what models return: tensors, arrays and their scalars."""
    for method in ("tolist", "item"):
        convert = getattr(value, method, None)
        if convert is not None:
            return convert()
    raise TypeError(f"a {type(value).__name__} has no JSON form; return numbers, texts, lists and objects")
