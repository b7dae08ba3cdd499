"""Learn handwritten digits (or any small gray pictures) with a convolutional network in PyTorch.

Reads a dataset version as a job gets it (``*.local.manifest``), or a folder with one subfolder of pictures a label.
Samples a manifest marks EVAL or TEST are held out; where none are, every fifth of each label. The package it writes
can be served as it is: ``model/model.pt`` (TorchScript) and ``model/config.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

HELD_OUT = ("EVAL", "TEST")
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}


class Picture(NamedTuple):
    file: Path
    label: str
    source: str
    held_out: bool


def read_samples(data: Path) -> list[Picture]:
    """The labeled pictures of `data`, in an order that does not change."""
    manifests = sorted(data.rglob("*.local.manifest"))
    if manifests:
        pictures = [p for line in manifests[0].read_text("utf-8").splitlines() if (p := from_line(line, data))]
    else:
        files = sorted(f for f in data.rglob("*") if f.suffix.lower() in PICTURES)
        pictures = [Picture(f, f.parent.name, f.relative_to(data).as_posix(), False) for f in files]
    if not pictures:
        raise SystemExit(f"{data} holds neither a manifest with labeled pictures nor a folder of pictures a label")
    return pictures if any(p.held_out for p in pictures) else hold_out(pictures)


def from_line(line: str, data: Path) -> Picture | None:
    """One sample of a manifest; None when nobody has labeled it."""
    sample = json.loads(line)
    labels = [a["name"] for a in sample.get("annotation", []) if a["type"].endswith("image_classification")]
    if not labels:
        return None
    file = Path(sample["source"])
    source = f"s3://{file.relative_to(data / 'data').as_posix()}"
    return Picture(file, labels[0], source, sample.get("usage", "").upper() in HELD_OUT)


def hold_out(pictures: list[Picture]) -> list[Picture]:
    """Every fifth picture of each label."""
    seen: dict[str, int] = defaultdict(int)
    chosen = []
    for picture in pictures:
        chosen.append(picture._replace(held_out=seen[picture.label] % 5 == 4))
        seen[picture.label] += 1
    return chosen


def to_tensor(pictures: list[Picture], size: int) -> Tensor:
    """Shape (n, 1, size, size), values 0 to 1."""
    arrays = []
    for picture in pictures:
        with Image.open(picture.file) as image:
            gray = image.convert("L")
            arrays.append(np.asarray(gray if gray.size == (size, size) else gray.resize((size, size)), np.float32))
    return torch.from_numpy(np.stack(arrays)[:, None] / 255)


def network(size: int, classes: int) -> nn.Module:
    reduced = size // 2
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(32 * reduced * reduced, 64),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(64, classes),
    )


def describe(size: int, labels: list[str], figures: dict[str, float]) -> dict[str, object]:
    """The package's ``config.json``: how a picture becomes the network's input, and what its outputs mean."""
    picture = {"type": "object", "properties": {"images": {"type": "file"}}}
    scores = {"type": "array", "items": [{"type": "array", "minItems": 2, "maxItems": 2}]}
    answer = {"type": "object", "properties": {"predicted_label": {"type": "string"}, "scores": scores}}
    return {
        "model_algorithm": "image_classification",
        "model_type": "PyTorch",
        "runtime": "python3.11",
        "metrics": figures,
        "apis": [
            {
                "protocol": "http",
                "url": "/",
                "method": "post",
                "request": {"Content-type": "multipart/form-data", "data": picture},
                "response": {"Content-type": "application/json", "data": answer},
            }
        ],
        "bottega": {
            "labels": labels,
            "images": {"images": {"mode": "L", "size": [size, size], "scale": 1 / 255}},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_url", type=Path, required=True, help="dataset version or folder")
    parser.add_argument("--train_url", type=Path, required=True, help="folder for the model")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--size", type=int, default=8, help="width and height of the pictures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    pictures = read_samples(options.data_url)
    labels = sorted({p.label for p in pictures})
    learned, held = [p for p in pictures if not p.held_out], [p for p in pictures if p.held_out]
    x, x_held = to_tensor(learned, options.size), to_tensor(held, options.size)
    y = torch.tensor([labels.index(p.label) for p in learned])
    y_held = torch.tensor([labels.index(p.label) for p in held])
    print(f"{len(learned)} pictures to learn from, {len(held)} held out, {len(labels)} labels")

    model = network(options.size, len(labels))
    optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate)
    steps = options.epochs * -(-len(x) // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    options.train_url.mkdir(parents=True, exist_ok=True)
    with (options.train_url / "metrics.jsonl").open("w", buffering=1) as scalars:
        for epoch in range(1, options.epochs + 1):
            began, total = time.perf_counter(), 0.0
            model.train()
            for batch in torch.split(torch.randperm(len(x)), options.batch_size):
                optimizer.zero_grad()
                loss = loss_function(model(x[batch]), y[batch])
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(batch)
            model.eval()
            with torch.inference_mode():
                predicted = model(x_held).argmax(1)
            accuracy = (predicted == y_held).float().mean().item()
            scalars.write(json.dumps({"step": epoch, "loss": total / len(x), "accuracy": accuracy}) + "\n")
            spent = time.perf_counter() - began
            print(f"epoch {epoch}: loss {total / len(x):.4f}, accuracy {accuracy:.4f}, {spent:.2f} s")

    save(options.train_url, model, options.size, labels, accuracy)
    evaluation = {
        "labels": labels,
        "y_true": [p.label for p in held],
        "y_pred": [labels[i] for i in predicted.tolist()],
        "samples": [p.source for p in held],
    }
    (options.train_url / "evaluation.json").write_text(json.dumps(evaluation))
    print(f"accuracy {accuracy:.4f} on {len(held)} held-out pictures")


def save(folder: Path, model: nn.Module, size: int, labels: list[str], accuracy: float) -> None:
    """The package to serve or convert, and the weights to go on from."""
    package, checkpoint = folder / "model", folder / "checkpoint"
    package.mkdir(exist_ok=True)
    checkpoint.mkdir(exist_ok=True)
    with torch.no_grad():
        script = torch.jit.trace(model, torch.zeros(2, 1, size, size))  # type: ignore[no-untyped-call]  # torch has no types here
        script.save(str(package / "model.pt"))
    (package / "config.json").write_text(json.dumps(describe(size, labels, {"accuracy": accuracy}), indent=2))
    torch.save(model.state_dict(), checkpoint / "weights.pth")


if __name__ == "__main__":
    main()
