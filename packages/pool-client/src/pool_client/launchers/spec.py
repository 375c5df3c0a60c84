"""Host strings: ``[scheme://][user@]host[:port]/n[?option=value&…]``.

IPv6 addresses stand in brackets; ``n`` may be ``auto``: as many workers as the host has CPUs.
"""

import re
from urllib.parse import parse_qsl

from pool_client.launchers.base import HostSpec

_SPEC = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?"
    r"(?:(?P<user>[^@/\s]+)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^@/:\s\[\]]+)"
    r"(?::(?P<port>\d+))?"
    r"/(?P<workers>\d+|auto)"
    r"(?:\?(?P<options>.*))?"
)


def in_brackets(host: str) -> str:
    """A host as it stands in a host string, and before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def parse(text: str) -> HostSpec:
    """The host that ``text`` names. Raises ValueError, saying what a host looks like."""
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a host; write local/4, ssh://user@host:22/8 or host:8899/8 "
            "(the last number is how many workers; auto: one for each CPU)"
        )
    host = match["host"].strip("[]")
    user = match["user"] or ""
    if host.startswith("-") or user.startswith("-"):
        raise ValueError(f"{text!r}: a host or user that begins with '-' is refused")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text!r}: port {port} is not between 1 and 65535")
    workers = 0 if match["workers"] == "auto" else int(match["workers"])
    if not workers and match["workers"] != "auto":
        raise ValueError(f"{text!r}: a host needs at least one worker")
    scheme = match["scheme"] or (
        "local" if host == "local" and not user and not port else "spawner"
    )
    return HostSpec(
        scheme=scheme,
        host=host,
        workers=workers,
        user=user,
        port=port,
        options=dict(parse_qsl(match["options"] or "")),
    )
