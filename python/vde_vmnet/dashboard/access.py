"""Who may use the dashboard: whoever has the address that was printed, once. Pure.

Every user of this host can connect to a port on loopback, and so can any page in the same browser. So the first
request must carry a token that only the terminal showed; it is good for one use, for which the browser gets a
cookie. Requests under another host name than the one that was printed are refused (a page elsewhere that lets
its name lead to 127.0.0.1), and changes only come from the page itself (``Origin``).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["HEADERS", "Access"]

#: With every answer: nothing from elsewhere, nothing kept, no frame around it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass
class Access:
    """The state of the lock: one token, then one cookie."""

    #: TCP port on 127.0.0.1.
    port: int
    make_secret: Callable[[], str] = field(default=_secret)
    _token: str | None = field(init=False)
    _session: str = field(init=False)

    def __post_init__(self) -> None:
        self._token = self.make_secret()
        self._session = self.make_secret()

    @property
    def cookie(self) -> str:
        """Its name: cookies do not know ports, and there may be several dashboards."""
        return f"vde_vmnet_{self.port}"

    @property
    def session(self) -> str:
        """Its value."""
        return self._session

    def address(self) -> str:
        """What to open. Only before it was opened."""
        return f"http://127.0.0.1:{self.port}/?token={self._token}"

    def redeem(self, token: str) -> bool:
        """Whether this is the token, which is used up with that."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            return False
        self._token = None
        return True

    def knows_session(self, cookie: str) -> bool:
        """Whether this browser has been let in."""
        return hmac.compare_digest(cookie.encode(), self._session.encode())

    def is_our_host(self, host: str) -> bool:
        """Whether the page was asked for under the name that was printed."""
        return host in (f"127.0.0.1:{self.port}", f"localhost:{self.port}")

    def is_our_origin(self, origin: str) -> bool:
        """Whether a change was asked for by our own page."""
        return self.is_our_host(origin.removeprefix("http://")) and origin.startswith("http://")
