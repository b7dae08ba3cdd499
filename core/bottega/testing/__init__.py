"""For plugin authors: a running platform in pytest, on real embedded parts (see `bottega.testing.fixtures`).

Installed as a pytest plugin: every fixture is there without an import. `bottega.testing.conformance` holds the suites
that an implementer of an extension point subclasses.
"""

from bottega.testing.process import PlatformProcess
from bottega.testing.receiver import Receiver, Request
from bottega.testing.running import RecordedEvents, RunningPlatform, Tenant, wait_until

__all__ = ["PlatformProcess", "Receiver", "RecordedEvents", "Request", "RunningPlatform", "Tenant", "wait_until"]
