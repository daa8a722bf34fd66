"""Stands before every request: only pages of this server may ask it, and whatever it answers runs nothing of others.

A page of another site can make a browser send requests to this machine. `Host` must therefore name this server by an address or
by its own name, which a foreign name that was made to point here (DNS rebinding) is not; and `Origin`, which browsers send with
what scripts ask for, must be this server. What computes is moreover asked by JSON in a POST, which browsers do not send to
other sites without asking them first; nothing here says yes to that.
"""

import ipaddress
import json
from collections.abc import Collection
from typing import Any, final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sae.dashboards.document import SCRIPT_HASH

__all__ = ["Guard", "is_loopback", "names_of"]

HEADERS = {
    # The hash is that of the one script inside a run's page; all other code is in files.
    "content-security-policy": (
        f"default-src 'none'; script-src 'self' 'sha256-{SCRIPT_HASH}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",  # a dashboard that was built again shows at once
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def names_of(host: str, machine: str) -> frozenset[str]:
    """Names, beside addresses, by which a server may be asked for.

    Args:
        host: that it listens on, a name or an address.
        machine: name of the machine, which counts where others can reach it.
    """
    names = {"localhost", host.lower()}
    return frozenset(names if is_loopback(host) else {*names, machine.lower(), machine.lower().partition(".")[0]})


@final
class Guard:
    """The checks around an application.

    Args:
        app: what answers if they pass.
        names: by which it may be asked for, beside addresses.
        loopback: whether it listens on this machine alone: then only addresses of the machine itself count.
    """

    def __init__(self, app: ASGIApp, *, names: Collection[str], loopback: bool) -> None:
        self.app, self.names, self.loopback = app, frozenset(names), loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *(pair for pair in added if pair[0] not in given)]}
            await send(message)

        refusal = self.refusal(Headers(scope=scope))
        if refusal is None:
            await self.app(scope, receive, send_with_headers)
            return
        body = json.dumps({"error": refusal}).encode()
        length = str(len(body)).encode()
        head: list[Any] = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send_with_headers({"type": "http.response.start", "status": 403, "headers": head})
        await send_with_headers({"type": "http.response.body", "body": body})

    def refusal(self, headers: Headers) -> str | None:
        """Why a request is refused; None where it is not."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            got = ", ".join(hosts)[:80] or "none"
            return f"The Host header is {got!r}. Expected this server's address or name: open the address that it printed."
        if origins and (len(origins) != 1 or urlsplit(origins[0]).netloc.lower() != hosts[0].lower()):
            return f"A page of {', '.join(origins)[:80]!r} may not ask this server: only its own pages may."
        asked_by = headers.get("sec-fetch-site", "none")
        if asked_by not in ("none", "same-origin") and headers.get("sec-fetch-mode") != "navigate":  # links may lead here
            return "A page of another site may not ask this server: only its own pages may."
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = (parts.hostname or "").lower()
            _ = parts.port
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which no other reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
