"""Credentials stay out of everything that leaves the process: terminal, logs, pages, tags, artifacts."""

from __future__ import annotations

import re

_USER_INFO = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/@'\"<>]*:[^\s'\"<>]*|[^\s/@'\"<>]*)@", re.IGNORECASE
)
"""``user:password@`` or ``token@`` of a URL. A password may hold ``/`` and ``@``, so it ends at the last ``@``."""
_SECRET_FIELD = re.compile(
    r"(?P<name>\b[\w.-]*(?:token|secret|passw(?:or)?d|pwd|api_?key|access_?key|signature|credential)[\w.-]*"
    r"|(?<=[?&;])(?:sig|key))(?P<equals>=)[^\s&;'\"<>]+",
    re.IGNORECASE,
)
"""A field of a URL's query or of a connection string that holds a secret, as in ``?sig=...``."""


def without_credentials(text: str) -> str:
    """Return ``text`` with users, passwords and tokens of all URLs in it replaced by ``***``."""
    return _SECRET_FIELD.sub(r"\g<name>=***", _USER_INFO.sub(r"\g<scheme>***@", text))
