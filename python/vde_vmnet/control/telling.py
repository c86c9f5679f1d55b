"""Saying what was changed, and who asked for it, in the log and to the one who asked."""

from __future__ import annotations

import logging

from vde_vmnet.control import models
from vde_vmnet.control.access import Peer
from vde_vmnet.control.operations import Request
from vde_vmnet.log import about

__all__ = ["done", "peer_of"]

_log = logging.getLogger(__name__)


def peer_of(request: Request) -> Peer | None:
    """Who asks, where that is known."""
    peer: Peer | None = request.scope.get("control", {}).get("peer")
    return peer


def done(
    request: Request, what: str, event: models.EventKind = "changed", *, port: int | None = None
) -> models.Done:
    """A change was made."""
    peer = peer_of(request)
    asked = "" if peer is None else f", as user id {peer.uid} asked"
    pid, uid = (None, None) if peer is None else (peer.pid or None, peer.uid)
    _log.info("%s%s", what, asked, extra=about(event, port=port, pid=pid, uid=uid))
    return models.Done(done=what)
