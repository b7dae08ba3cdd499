"""A small network, really trained on scikit-learn's digits, once a session, and its data in several forms."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

CONFIG = {
    "model_algorithm": "image_classification",
    "model_type": "PyTorch",
    "apis": [
        {
            "protocol": "https",
            "url": "/",
            "method": "post",
            "request": {"Content-type": "multipart/form-data", "data": {"type": "object"}},
            "response": {"Content-type": "application/json", "data": {"type": "object"}},
        }
    ],
    "bottega": {
        "labels": [str(n) for n in range(10)],
        "images": {"image": {"mode": "L", "size": [8, 8], "scale": 1 / 255}},
    },
}


@dataclass(frozen=True)
class Digits:
    """`rows` (n, 1, 8, 8) in 0…1 and their classes; the last 397 were not trained on. `script` is TorchScript."""

    rows: NDArray[np.float32]
    classes: NDArray[np.int64]
    script: bytes
    config: bytes

    def npz(self, start: int = 1400, **changes: Any) -> bytes:
        """Rows from `start` on as an archive; `changes` replace or (None) drop an array."""
        arrays = {"x": self.rows[start:], "y": self.classes[start:], **changes}
        file = io.BytesIO()
        np.savez(file, **{k: v for k, v in arrays.items() if v is not None})
        return file.getvalue()

    def png(self, index: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray((self.rows[index, 0] * 255).round().astype(np.uint8), "L").save(file, "PNG")
        return file.getvalue()


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = load_digits()
    pixels = (data.images * (255 / 16)).round().astype(np.uint8)
    rows = (pixels.astype(np.float32) / 255)[:, None]
    classes = data.target.astype(np.int64)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    x, y = torch.from_numpy(rows[:1400]), torch.from_numpy(classes[:1400])
    for _ in range(15):
        for batch in torch.randperm(1400).reshape(14, 100):
            optimizer.zero_grad()
            loss: Any = torch.nn.functional.cross_entropy(network(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
    return Digits(rows, classes, traced(network.eval()), json.dumps(CONFIG).encode())


def traced(network: torch.nn.Module) -> bytes:
    """As the training examples write it."""
    file = io.BytesIO()
    trace: Any = torch.jit.trace  # has no types
    with torch.no_grad():
        torch.jit.save(trace(network, torch.zeros(2, 1, 8, 8)), file)
    return file.getvalue()
