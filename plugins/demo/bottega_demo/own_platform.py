"""A platform of the demo's own, in a directory that is gone afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bottega_demo.stage import StepFailed


@contextmanager
def started() -> Iterator[Path]:
    """``bottega up`` on a free port; gives its credentials file. Stops it, with everything it started, at the end."""
    with tempfile.TemporaryDirectory(prefix="bottega-demo-") as directory:
        data, log = Path(directory) / "data", Path(directory) / "platform.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "bottega", "up", "--data-dir", str(data), "--port", "0"],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the demo, which then stops the platform in order
            )
        try:
            yield _ready(process, data / "credentials.json", log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[bytes], credentials: Path, log: Path) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{json.loads(credentials.read_text())['url']}/readyz").status_code == 200:
                return credentials
        except (OSError, ValueError, httpx.TransportError):
            pass  # not written, or not listening, yet
        time.sleep(0.05)
    raise StepFailed(f"the platform did not start:\n{log.read_text(errors='replace')[-3000:]}")
