"""The base classes of ``customize_service.py`` and the module names under which user code imports them (table 12-8)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

import numpy as np


class BaseService:
    """Override ``_preprocess`` and ``_postprocess``; ``__init__`` and ``_inference`` where the model is loaded by hand.

    `model_path` of ``__init__`` is the model's file where the package has exactly one, else its folder;
    ``self.model_path`` is always the folder (002 §12.3, table 12-9).
    """

    session: ClassVar[Any] = None
    """The model as the runtime loaded it; None where only user code can."""

    def __init__(self, model_name: str, model_path: str) -> None:
        self.model_name = model_name
        self.model_path = model_path if os.path.isdir(model_path) else os.path.dirname(model_path)

    def _preprocess(self, data: Any) -> Any:
        return data

    def _inference(self, data: Any) -> Any:
        """Run the built-in model on ``{input: array}``; the outputs come back as lists, by name."""
        if self.session is None:
            raise NotImplementedError("this package's model can only be run by its own _inference")
        if not isinstance(data, Mapping):
            raise TypeError("_preprocess must return a dictionary of inputs for the built-in _inference")
        inputs = self.session.inputs
        if len(inputs) == 1 and len(data) == 1:
            # With one input on either side their names need not agree: 'images' of a form feeds it.
            data = {inputs[0].name: next(iter(data.values()))}
        arrays = {
            field.name: np.asarray(data[field.name], object if field.dtype == "str" else field.dtype)
            for field in inputs
        }
        return {name: np.asarray(value).tolist() for name, value in self.session.run(arrays).items()}

    def _postprocess(self, data: Any) -> Any:
        return data

    def inference(self, data: Any) -> Any:
        """The whole way of one request."""
        return self._postprocess(self._inference(self._preprocess(data)))


class PTServingBaseService(BaseService):
    """For PyTorch."""


class TfServingBaseService(BaseService):
    """For TensorFlow; its code runs unchanged on a model that was converted to ONNX."""


class MXNetBaseService(BaseService):
    """For MXNet."""


class SparkServingBaseService(BaseService):
    """For Spark."""


class CaffeBaseService(BaseService):
    """For Caffe."""


_TABLE_12_8: dict[str, dict[str, type[BaseService]]] = {
    "model_service": {},
    "model_service.pytorch_model_service": {
        "PTServingBaseService": PTServingBaseService,
        "PTervingBaseService": PTServingBaseService,  # as the table prints it
    },
    "model_service.tfserving_model_service": {"TfServingBaseService": TfServingBaseService},
    "model_service.spark_model_service": {"SparkServingBaseService": SparkServingBaseService},
    "model_service.caffe_model_service": {"CaffeBaseService": CaffeBaseService},
    "mms": {},
    "mms.model_service": {},
    "mms.model_service.mxnet_model_service": {"MXNetBaseService": MXNetBaseService},
}


def install_modules() -> None:
    """Make the modules of table 12-8 importable in this process."""
    for name, classes in _TABLE_12_8.items():
        module = ModuleType(name)
        module.__path__ = []
        vars(module).update(classes)
        sys.modules[name] = module
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
