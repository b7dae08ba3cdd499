from __future__ import annotations

from bottega.testing.conformance.backend import BackendContract


class TestBackendLocal(BackendContract):
    flavor = "local.small"
