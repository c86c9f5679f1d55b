"""Where the switch meets the world: one module per uplink, and the choice among them."""

from __future__ import annotations

from vde_vmnet.config.model import Backend, UplinkConfig
from vde_vmnet.errors import PrivilegeError
from vde_vmnet.uplinks.base import EndpointKind, OpenedEndpoint, OpenedUplink, Uplink
from vde_vmnet.uplinks.linux import LinuxUplink
from vde_vmnet.uplinks.linux.children import CAP_NET_ADMIN, effective_capabilities
from vde_vmnet.uplinks.none import NoneUplink

__all__ = ["EndpointKind", "OpenedEndpoint", "OpenedUplink", "Uplink", "choose"]


def choose(backend: Backend, config: UplinkConfig, network_id: str) -> tuple[Uplink, str]:
    """The uplink for ``--backend``, and why it was chosen, as one line for the log. Opens nothing.

    Raises PrivilegeError when ``auto`` finds that the caller may not open the uplink of this system.
    """
    if backend is Backend.NONE:
        return NoneUplink(), "none, asked for with --backend=none"
    if backend is Backend.LINUX:
        return LinuxUplink(config, network_id), "linux, asked for with --backend=linux"
    if not effective_capabilities() >> CAP_NET_ADMIN & 1:
        raise PrivilegeError(
            "The uplink of this system, linux, needs root (CAP_NET_ADMIN)",
            next_step="Run with sudo, or use --backend=none for an isolated switch",
        )
    return LinuxUplink(config, network_id), "linux, since we may configure the network of this host"
