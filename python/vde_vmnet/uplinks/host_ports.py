"""The host's end of ``--forward``: whether a port can be had, and why not; the same for every uplink."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from vde_vmnet.addresses import Forward, NamedForward
from vde_vmnet.errors import ConfigurationError, ConflictError, PrivilegeError, UplinkError, VdeVmnetError

__all__ = ["check_guests", "take", "translated"]

_SOCKET_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def check_guests(forwards: Iterable[Forward], network: IPv4Network) -> None:
    """Raises ConfigurationError when a guest's address is not of the network."""
    for one in forwards:
        if one.guest not in network:
            raise ConfigurationError(f"--forward {one}: {one.guest} is outside {network}")


def take(rule: Forward | NamedForward, default: IPv4Address) -> socket.socket:
    """A socket that has the port, so that nobody else takes it; nobody is served through it.

    Raises ConflictError (it is taken), PrivilegeError (a low port), UplinkError (no address of this host).
    """
    taken = socket.socket(socket.AF_INET, _SOCKET_TYPES[rule.protocol])
    try:
        # Connections of an earlier run that have just ended are not in the way.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if rule.protocol == "tcp" else 0)
        taken.bind((str(rule.host or default), rule.host_port))
    except OSError as error:
        taken.close()
        raise translated(error, rule, default) from error
    return taken


def translated(error: OSError, rule: Forward | NamedForward, default: IPv4Address) -> VdeVmnetError:
    """Why the host's port of a forward cannot be had, and what to do."""
    host = rule.host or default
    said = f"--forward {rule}: {rule.protocol} port {rule.host_port} of {host}"
    if error.errno == errno.EADDRINUSE:
        return ConflictError(
            f"{said} is taken by another program",
            next_step=f"Choose another; who has it says: ss -ln{rule.protocol[0]}p 'sport = :{rule.host_port}'",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PrivilegeError(
            f"{said} may not be used by this user",
            next_step="Ports below 1024 (sysctl net.ipv4.ip_unprivileged_port_start) need root; choose another",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UplinkError(f"{said} is not an address of this host")
    return UplinkError(f"{said}: {error.strerror or error}")
