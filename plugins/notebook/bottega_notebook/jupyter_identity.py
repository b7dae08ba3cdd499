"""Runs inside JupyterLab: it knows only the platform's proxy, by a key that never reaches a browser.

Jupyter's own token will not do: JupyterLab writes it into its pages.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User

from bottega_notebook.jupyter import KEY_HEADER, KEY_VARIABLE, USER_HEADER

# Taken out, so that kernels and terminals do not inherit it.
KEY = os.environ.pop(KEY_VARIABLE)


class PlatformIdentity(IdentityProvider):
    """Whoever comes with the key was checked by the platform, which names the user; nobody else is anyone."""

    def get_user(self, handler: Any) -> User | None:
        headers = handler.request.headers
        if not hmac.compare_digest(headers.get(KEY_HEADER, "").encode(), KEY.encode()):
            return None
        # Like a token in a header, the key shows that no foreign page made the browser send this.
        handler._token_authenticated = True
        name = headers.get(USER_HEADER, "user")
        return User(username=name, name=name, display_name=name)

    @property
    def login_available(self) -> bool:
        return False

    @property
    def logout_available(self) -> bool:
        return False
