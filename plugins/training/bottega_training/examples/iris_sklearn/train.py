"""Learn to tell iris species apart with scikit-learn, from a CSV file or from the flowers scikit-learn carries.

The package it writes, ``model/model.joblib`` and ``model/config.json``, can be imported as a model. Serving it needs a
plugin with a runtime for ``Scikit_Learn`` models; none is shipped. The example ``digits_cnn`` is served as it is.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def read_flowers(data: Path | None) -> tuple[NDArray[np.float64], list[str]]:
    """Rows of four lengths in cm, and their species; a CSV file has the columns above and ``species``."""
    if data is None:
        iris = load_iris()
        return iris.data, [str(iris.target_names[i]) for i in iris.target]
    file = data if data.is_file() else next(iter(sorted(data.rglob("*.csv"))))
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return np.array([[float(row[c]) for c in COLUMNS] for row in rows]), [row["species"] for row in rows]


def describe(labels: list[str]) -> dict[str, object]:
    """The package's ``config.json``: rows of named columns in, one species a row out."""
    number, text = {"type": "number"}, {"type": "string"}

    def rows(name: str, fields: dict[str, object]) -> dict[str, object]:
        items = [{"type": "object", "properties": fields}]
        data = {"type": "object", "properties": {name: {"type": "array", "items": items}}}
        return {"Content-type": "application/json", "data": {"type": "object", "properties": {"data": data}}}

    columns: dict[str, object] = dict.fromkeys(COLUMNS, number)
    return {
        "model_algorithm": "classification",
        "model_type": "Scikit_Learn",
        "runtime": "python3.11",
        "apis": [
            {
                "protocol": "http",
                "url": "/",
                "method": "post",
                "request": rows("req_data", columns),
                "response": rows("resp_data", {**columns, "predictresult": text}),
            }
        ],
        "bottega": {"labels": labels},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_url", type=Path, help="CSV file or folder; the built-in flowers when left out")
    parser.add_argument("--train_url", type=Path, required=True, help="folder for the model")
    parser.add_argument("--held_out", type=float, default=0.3, help="share of the flowers kept for evaluation")
    parser.add_argument("--c", type=float, default=1.0, help="inverse strength of regularization")
    options = parser.parse_args()

    rows, species = read_flowers(options.data_url)
    x_train, x_test, y_train, y_test = train_test_split(
        rows, species, test_size=options.held_out, random_state=0, stratify=species
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=options.c, max_iter=1000))
    model.fit(x_train, y_train)
    predicted = [str(name) for name in model.predict(x_test)]
    labels = [str(name) for name in model.classes_]
    print(f"{len(x_train)} flowers learned, accuracy {model.score(x_test, y_test):.4f} on {len(x_test)} others")

    package = options.train_url / "model"
    package.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, package / "model.joblib")
    (package / "config.json").write_text(json.dumps(describe(labels), indent=2))
    evaluation = {"labels": labels, "y_true": list(y_test), "y_pred": predicted}
    (options.train_url / "evaluation.json").write_text(json.dumps(evaluation))


if __name__ == "__main__":
    main()
