"""How a workload can end other than by its own process's exit."""

from __future__ import annotations


class LaunchFailure(Exception):
    """The workload cannot run, or its outputs cannot be stored; the message is the reason users see."""


class Cancelled(Exception):
    """What was going on was broken off because the workload is asked to end."""
