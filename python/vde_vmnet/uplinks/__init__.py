"""Where the switch meets the world: one module per uplink, and the choice among them."""

from __future__ import annotations

from vde_vmnet.config.model import Backend, UplinkConfig
from vde_vmnet.errors import ConfigurationError, PrivilegeError
from vde_vmnet.uplinks.base import EndpointKind, OpenedEndpoint, OpenedUplink, Uplink
from vde_vmnet.uplinks.linux import LinuxUplink
from vde_vmnet.uplinks.linux.children import CAP_NET_ADMIN, effective_capabilities
from vde_vmnet.uplinks.none import NoneUplink
from vde_vmnet.uplinks.vmnet import VmnetUplink, library

__all__ = ["EndpointKind", "OpenedEndpoint", "OpenedUplink", "Uplink", "choose"]


def choose(backend: Backend, config: UplinkConfig, network_id: str) -> tuple[Uplink, str]:
    """The uplink for ``--backend``, and why it was chosen, as one line for the log. Opens nothing.

    Raises PrivilegeError when ``auto`` finds that the caller may not open the uplink of this system,
    ConfigurationError when it can never do what is asked.
    """
    if backend is Backend.NONE:
        return NoneUplink(), "none, asked for with --backend=none"
    if backend is Backend.VMNET:
        return VmnetUplink(config, network_id), "vmnet, asked for with --backend=vmnet"
    if backend is Backend.AUTO and library.is_macos():
        return VmnetUplink(config, network_id), "vmnet, since this is a Mac"
    if config.forwards:
        raise ConfigurationError(
            "--forward is for the vmnet uplink of macOS, and this is the linux uplink",
            next_step="The host reaches guests at their own addresses; let others in with a rule of nftables",
        )
    if backend is Backend.LINUX:
        return LinuxUplink(config, network_id), "linux, asked for with --backend=linux"
    if not effective_capabilities() >> CAP_NET_ADMIN & 1:
        raise PrivilegeError(
            "The uplink of this system, linux, needs root (CAP_NET_ADMIN)",
            next_step="Run with sudo, or use --backend=none for an isolated switch",
        )
    return LinuxUplink(config, network_id), "linux, since we may configure the network of this host"
