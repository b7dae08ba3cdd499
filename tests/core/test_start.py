"""What a start must not do again: import what only the work imports. It is what made starts slow before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bottega.testing import RunningPlatform

_NEEDED_LATER = [
    "alembic",  # once a database is up to date
    "boto3",
    "botocore",
    "datasketch",
    "imagehash",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "PIL",
    "psycopg",  # with a database of PostgreSQL
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
]
_START = """
import sys
from pathlib import Path
from bottega.testing import RunningPlatform

with RunningPlatform(Path(sys.argv[1])) as running:
    running.tenant().client.get("/v1/whoami")
    print(" ".join({name.split(".")[0] for name in sys.modules}))
"""


def test_a_later_start_imports_nothing_that_only_work_needs(tmp_path: Path) -> None:
    with RunningPlatform(tmp_path):
        pass
    ended = subprocess.run([sys.executable, "-c", _START, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    loaded = set(ended.stdout.split())
    assert {"bottega", "bottega_dataset", "bottega_training"} <= loaded
    assert loaded.isdisjoint(_NEEDED_LATER)
