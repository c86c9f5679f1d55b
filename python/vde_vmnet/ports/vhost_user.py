"""Serve a vhost-user socket: guests that share their memory, such as QEMU's with ``-netdev vhost-user``.

What is said on a connection is between the front end and the engine, which copies frames from and to the
guest's memory. A front end may come back on a new connection, and goes on where it was.
"""

from __future__ import annotations

from vde_vmnet.ports.connections import ConnectionListener

__all__ = ["VhostUserListener"]


class VhostUserListener(ConnectionListener):
    """Listener for one path. See ``ports.base.Listener``."""

    engine_kind = "vhost_user"
    guest_kind = "vhost-user"

    def how_to_plug_in(self) -> str:
        """See ``ports.base.Listener``."""
        return (
            f"-chardev socket,id=chr0,path={self._file.path},reconnect=1"
            " -netdev vhost-user,id=net0,chardev=chr0"
            " -object memory-backend-memfd,id=mem0,size=1G,share=on -machine memory-backend=mem0 -m 1G"
        )
