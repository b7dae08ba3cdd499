"""One loaded model that answers requests: several in one run when the model allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bottega.errors import ApiError
from bottega_serving.inference.codec import Codec, Work
from bottega_serving.inference.session import Session
from bottega_serving.package import ModelConfig

Answer = bytes | ApiError


class ModelError(ApiError):
    """The model failed on this request."""

    status = 500
    code = "ModelArts.4302"


class Engine(Protocol):
    """What a request goes through; `decode` is quick, `answer` is the inference."""

    def decode(self, body: bytes, content_type: str) -> Any:
        """Raises ApiError for a request that cannot be answered."""
        ...

    def answer(self, works: Sequence[Any]) -> list[Answer]:
        """One answer per decoded request, in their order; an error concerns its request only."""
        ...


class SessionEngine:
    """A model without user code: the platform's own request forms around a runtime's session."""

    def __init__(self, session: Session, config: ModelConfig) -> None:
        self._session = session
        self._codec = Codec(session.inputs, config)

    def decode(self, body: bytes, content_type: str) -> Work:
        return self._codec.decode(body, content_type)

    def answer(self, works: Sequence[Work]) -> list[Answer]:
        if len(works) == 1 or not self._session.batches or not all(work.samples for work in works):
            return [self._alone(work) for work in works]
        try:
            return self._together(works)
        except Exception:  # whatever a runtime raises: one request's values may be the cause, so each runs alone
            return [self._alone(work) for work in works]

    def _alone(self, work: Work) -> Answer:
        try:
            return self._codec.encode(work, self._session.run(work.arrays))
        except Exception as problem:  # whatever a runtime raises concerns this request only
            return ModelError(f"the model failed: {type(problem).__name__}: {problem}")

    def _together(self, works: Sequence[Work]) -> list[Answer]:
        joined = {name: np.concatenate([work.arrays[name] for work in works]) for name in works[0].arrays}
        outputs = self._session.run(joined)
        answers: list[Answer] = []
        start = 0
        for work in works:
            end = start + work.samples
            answers.append(self._codec.encode(work, {name: value[start:end] for name, value in outputs.items()}))
            start = end
        return answers
