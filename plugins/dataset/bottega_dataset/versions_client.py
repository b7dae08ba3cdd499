"""Versions of datasets from Python, and waiting for work in the background: parts of `bottega_dataset.client`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from bottega.client import ApiFailure, Client

POLL_S, _SOON_S = 0.2, 0.02

Progress = Callable[[dict[str, Any]], None]
"""Called with the task as the API shows it, each time it was asked for."""


class TaskFailed(Exception):
    """Background work on a dataset failed; the message says why."""


def wait(client: Client, path: str, progress: Progress | None) -> dict[str, Any]:
    """The task at `path`, as it ended. Raises TaskFailed."""
    began = time.monotonic()
    while True:
        task: dict[str, Any] = client.get(path)
        if progress:
            progress(task)
        if task["status"] in ("COMPLETED", "SUCCESSED"):
            return task
        if task["status"] == "FAILED":
            raise TaskFailed(task["error_msg"])
        if task["status"] == "STOPPED":
            raise TaskFailed("it was stopped")
        # What has taken long may take long: the end is noticed soon in proportion.
        time.sleep(min(POLL_S, max(_SOON_S, (time.monotonic() - began) / 10)))


class Versions:
    """The versions of a project's datasets; a dataset goes by its name or its id, a version by its name."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _path(self, name: str) -> str:
        raise NotImplementedError

    def publish(
        self,
        name: str,
        version_name: str | None = None,
        *,
        train_ratio: float = 1.0,
        seed: int = 0,
        timeout_s: float = 600,
        **options: Any,
    ) -> dict[str, Any]:
        """Publish a version, wait until it is there, and return it. Raises TaskFailed.

        `options` are further fields of the API, such as ``description`` and ``export_images=True``.
        """
        where = self._path(name) + "/versions"
        body = {"train_evaluate_sample_ratio": f"{train_ratio:.4f}", "seed": seed, **options}
        made = self._client.post(where, body | ({"version_name": version_name} if version_name else {}))
        return self._published(f"{where}/{made['version_id']}", timeout_s)

    def _published(self, path: str, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            version: dict[str, Any] = self._client.get(path)
            if version["status"] == 1:
                return version
            if version["status"] == 4:
                raise TaskFailed(f"version {version['version_name']} was not published: {version['message']}")
            if time.monotonic() > deadline:
                raise TaskFailed(f"version {version['version_name']} was not there within {timeout_s:g} s")
            time.sleep(POLL_S)

    def versions(self, name: str) -> Iterator[dict[str, Any]]:
        """The newest first."""
        return self._client.pages(self._path(name) + "/versions", "versions")

    def version(self, name: str, version_name: str | None = None) -> dict[str, Any]:
        """The version of that name, or the current one. Raises ApiFailure (404)."""
        for version in self.versions(name):
            if version["version_name"] == version_name or (version_name is None and version["is_current"]):
                return version
        wanted = f"version '{version_name}'" if version_name else "published version"
        raise ApiFailure(404, "ModelArts.0104", f"dataset '{name}' has no {wanted}", "")

    def use_version(self, name: str, version_name: str) -> None:
        """Make a version the current one; no sample changes by it. Raises ApiFailure (404, 409)."""
        self._client.put(self._path(name), {"current_version_id": self.version(name, version_name)["version_id"]})

    def delete_version(self, name: str, version_name: str) -> None:
        """Take a version out of the lists; its files stay in storage. Raises ApiFailure (404)."""
        self._client.delete(f"{self._path(name)}/versions/{self.version(name, version_name)['version_id']}")

    def roll_back(self, name: str, version_name: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """Set the labels of all samples back to those of a version, wait, and return the finished task.

        ``change_id`` is what `labeling.undo_change` takes back, ``missing_sample_count`` how many samples of the
        version are not in the dataset any more (`rollback_problems`). Raises TaskFailed; then nothing was changed.
        """
        where = f"{self._path(name)}/versions/{self.version(name, version_name)['version_id']}/rollback"
        task = self._client.post(where, {})
        return wait(self._client, f"{self._path(name)}/rollback-tasks/{task['task_id']}", progress)

    def rollback_problems(self, name: str, task_id: str) -> Iterator[dict[str, Any]]:
        """The samples of the version that were not in the dataset any more."""
        return self._client.pages(f"{self._path(name)}/rollback-tasks/{task_id}/problems", "problems")

    def compare(
        self,
        name: str,
        version_name: str | None = None,
        base_version_name: str | None = None,
        *,
        change: str | None = None,
    ) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        """What is different in a version (by default the current one) from another (the one before it).

        The counts of samples and the labels that changed; and the samples, each with its labels in both versions.

        :param change: ``added``, ``removed`` or ``modified``: only such samples.
        """
        query: dict[str, Any] = {"version_id": self.version(name, version_name)["version_id"], "change": change}
        if base_version_name:
            query["base_version_id"] = self.version(name, base_version_name)["version_id"]
        where = self._path(name) + "/versions/compare"
        found = self._client.get(where, query | {"limit": 1})
        return found, self._client.pages(where, "samples", query)
