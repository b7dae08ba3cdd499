"""What the demo shows: numbered steps with their time, waits with progress, and which step failed and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console


class StepFailed(Exception):
    """A step of the demo did not come out as it must."""


class Stage:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps = 0
        self.current = ""
        self._began = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self.steps += 1
        self.current = title
        began = time.monotonic()
        self.console.print(f"\n[bold cyan]{self.steps:>2}. {title}[/]")
        yield
        self.console.print(f"    [dim]{time.monotonic() - began:.1f} s[/]")

    def say(self, text: str) -> None:
        self.console.print(f"    {text}", highlight=False)

    def wait(self, what: str, look: Callable[[], tuple[bool, str]], timeout_s: float = 180) -> None:
        """Call `look` until its first value is true; the second is shown as progress. Raises StepFailed in the end."""
        deadline = time.monotonic() + timeout_s
        shown = ""
        with self.console.status(f"    {what}") as status:
            while True:
                done, shown = look()
                if done:
                    return
                status.update(f"    {what}: {shown}")
                if time.monotonic() > deadline:
                    raise StepFailed(f"{what} took more than {timeout_s:.0f} s; last seen: {shown}")
                time.sleep(0.2)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def expect(condition: Any, otherwise: str) -> None:
    """Raises StepFailed when what must hold does not."""
    if not condition:
        raise StepFailed(otherwise)
