"""Names where the API takes ids, for the command line: a model's, a service's, a training job's."""

from __future__ import annotations

import uuid
from typing import Any

import typer

from bottega.client import ApiFailure, Client

MODELS = "/v1/{project_id}/models"
SERVICES = "/v1/{project_id}/services"
_JOBS = "/v2/{project_id}/training-jobs"


def model(client: Client, text: str) -> dict[str, Any]:
    """The model of an id, a name that has one version, or ``NAME:VERSION``.

    Raises typer.BadParameter that lists the versions when the name alone, or the version, does not say which.
    """
    name, _, version = text.partition(":")
    if not _is_id(text):
        query = {"model_name": name, "exact_match": "true"}
        versions = {str(row["model_version"]): row for row in client.pages(MODELS, "models", query)}
        listed = ", ".join(sorted(versions))
        if version and versions and version not in versions:
            raise typer.BadParameter(f"model '{name}' has no version {version}; there are: {listed}")
        if not version and len(versions) > 1:
            raise typer.BadParameter(f"model '{name}' has several versions, write {name}:VERSION; there are: {listed}")
        if versions:
            text = str((versions[version] if version else next(iter(versions.values())))["model_id"])
    shown: dict[str, Any] = client.get(f"{MODELS}/{text}")
    return shown


def model_id(client: Client, text: str) -> str:
    """The id of `model`, without a request when `text` is one."""
    return text if _is_id(text) else str(model(client, text)["model_id"])


def service_id(client: Client, text: str) -> str:
    """The id of the service of that id or name; `text` itself when there is none, for the API to refuse."""
    if not _is_id(text):
        for row in client.pages(SERVICES, "services", {"service_name": text}):
            if row["service_name"] == text:
                return str(row["service_id"])
    return text


def job_id(client: Client, text: str) -> str:
    """The id of the training job of that id or name; `text` itself when there is none, for the API to refuse."""
    if not _is_id(text):
        try:
            for row in client.pages(_JOBS, "items", {"name": text}, limit=50):
                if row["metadata"]["name"] == text:
                    return str(row["metadata"]["id"])
        except ApiFailure as problem:
            if problem.status != 404:  # the training plugin may be off; models of older jobs can still be imported
                raise
    return text


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
