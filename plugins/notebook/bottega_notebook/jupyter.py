"""How a JupyterLab is started: the specification of its workload."""

from __future__ import annotations

import secrets
from typing import Any

from bottega.backends import WorkloadSpec

PORT, SSH_PORT = "jupyter", "ssh"
SSH_VARIABLE = "BOTTEGA_NOTEBOOK_SSH_PORT"
KEY_VARIABLE = "BOTTEGA_NOTEBOOK_KEY"
KEY_HEADER = "X-Bottega-Notebook-Key"
USER_HEADER = "X-Bottega-User"
FOLDER = "work"
"""Where users see their files, as on the vendor's notebooks (002 §4.1.3.3)."""
_PACKAGES = ".local/packages"
_PAGE_CONFIG = ".jupyter/labconfig/page_config.json"
_NO_NEWS = '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}'
"""Without it every new user is asked whether JupyterLab may fetch news from the internet."""

_SESSION_POLICY: dict[str, Any] = {
    "Version": "1.1",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["modelarts:*:get*", "modelarts:*:list*", "modelarts:dataset:*", "obs:*:*"],
        }
    ],
}
"""What code in a notebook may do in its owner's name: read everything, work on datasets and objects."""


def base_path(project_id: str, notebook_id: str) -> str:
    """Where a notebook lives, both at the platform and in its JupyterLab."""
    return f"/notebooks/{project_id}/{notebook_id}/"


def workload_spec(project_id: str, notebook_id: str, start_timeout_s: float, *, ssh: bool) -> WorkloadSpec:
    """A JupyterLab that listens on 127.0.0.1 and knows nobody but who holds the key made here.

    With `ssh` it serves shells and files over SSH too, to the same.

    Packages installed with pip go to the notebook's own disk and last, instead of changing the platform's
    environment. JupyterLab itself ignores them (``-E``), its kernels and terminals see them.
    """
    base = base_path(project_id, notebook_id)
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": f"{{port:{PORT}}}",
        "ServerApp.port_retries": "0",
        "ServerApp.base_url": base,
        "ServerApp.root_dir": f"{{dir}}/{FOLDER}",
        "ServerApp.open_browser": "False",
        "ServerApp.allow_root": "True",
        "ServerApp.allow_remote_access": "False",
        "ServerApp.quit_button": "False",
        "ServerApp.identity_provider_class": "bottega_notebook.jupyter_identity.PlatformIdentity",
        "IdentityProvider.token": "",
        "MultiKernelManager.default_kernel_name": "python3",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.news_url": "None",
        "LabApp.extension_manager": "readonly",
    }
    if ssh:
        options["ServerApp.jpserver_extensions"] = "bottega_notebook.ssh_inside=True"
    return WorkloadSpec(
        command=["{python}", "-E", "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
        environment={
            KEY_VARIABLE: secrets.token_urlsafe(32),
            "JUPYTER_CONFIG_DIR": "{dir}/.jupyter",
            "JUPYTER_DATA_DIR": "{dir}/.local/share/jupyter",
            "JUPYTER_RUNTIME_DIR": "{dir}/.local/share/jupyter/runtime",
            "JUPYTERLAB_SETTINGS_DIR": "{dir}/.jupyter/lab/user-settings",
            "JUPYTERLAB_WORKSPACES_DIR": "{dir}/.jupyter/lab/workspaces",
            "IPYTHONDIR": "{dir}/.ipython",
            "PIP_TARGET": f"{{dir}}/{_PACKAGES}",
            "PYTHONPATH": f"{{dir}}/{_PACKAGES}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "SHELL": "/bin/bash",
        }
        | ({SSH_VARIABLE: f"{{port:{SSH_PORT}}}"} if ssh else {}),
        # A folder that is not there when Python starts is not looked into later.
        files={f"{folder}/.keep": "" for folder in (FOLDER, _PACKAGES)} | {_PAGE_CONFIG: _NO_NEWS},
        persistent_dir=f"notebook-{notebook_id}",
        ports=[PORT, SSH_PORT] if ssh else [PORT],
        readiness=f"{PORT}:{base}api",
        readiness_timeout_s=start_timeout_s,
        session_policy=_SESSION_POLICY,
    )
