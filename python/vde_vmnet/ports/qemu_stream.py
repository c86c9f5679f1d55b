"""Serve a stream socket: QEMU's ``-netdev stream`` and ``-netdev socket,fd=``, and socket_vmnet's clients.

There is no handshake; each frame comes with its length in front.
"""

from __future__ import annotations

from vde_vmnet.ports.connections import ConnectionListener

__all__ = ["QemuStreamListener"]


class QemuStreamListener(ConnectionListener):
    """Listener for one path. See ``ports.base.Listener``."""

    engine_kind = "stream"
    guest_kind = "stream"

    def how_to_plug_in(self) -> str:
        """See ``ports.base.Listener``."""
        if self._offload_mtu is not None:
            return f"krunkit --device virtio-net,type=unixstream,path={self._file.path},offloading=on"
        return f"-netdev stream,id=net0,addr.type=unix,addr.path={self._file.path}"
