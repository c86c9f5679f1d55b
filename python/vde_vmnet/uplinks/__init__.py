"""Where the switch meets the world: one module per uplink, and the choice among them."""

from __future__ import annotations

from vde_vmnet.config.model import Backend, UplinkConfig
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.uplinks.base import EndpointKind, OpenedEndpoint, OpenedUplink, Uplink
from vde_vmnet.uplinks.linux import LinuxUplink
from vde_vmnet.uplinks.linux.children import CAP_NET_ADMIN, effective_capabilities
from vde_vmnet.uplinks.none import NoneUplink
from vde_vmnet.uplinks.user import UserUplink
from vde_vmnet.uplinks.vmnet import VmnetUplink, library

__all__ = ["EndpointKind", "OpenedEndpoint", "OpenedUplink", "Uplink", "choose"]


def choose(backend: Backend, config: UplinkConfig, network_id: str) -> tuple[Uplink, str]:
    """The uplink for ``--backend``, and why it was chosen, as one line for the log. Opens nothing.

    Raises ConfigurationError when it can never do what is asked.
    """
    if backend is Backend.NONE:
        return NoneUplink(), "none, asked for with --backend=none"
    on_mac = backend is Backend.AUTO and library.is_macos()
    if config.named_forwards and (backend is Backend.VMNET or on_mac):
        raise ConfigurationError(
            f"--forward {config.named_forwards[0]}: the vmnet uplink forwards to addresses only",
            next_step=f"Reserve one for {config.named_forwards[0].guest} with --reserve, or write an address",
        )
    if config.rules and (backend is Backend.VMNET or on_mac):
        raise ConfigurationError(
            "--allow and --deny are for the linux and user uplinks, and this is the vmnet uplink",
            next_step="Filter with macOS's own firewall (pf), or use --backend=user",
        )
    if backend is Backend.VMNET:
        return VmnetUplink(config, network_id), "vmnet, asked for with --backend=vmnet"
    if on_mac:
        return VmnetUplink(config, network_id), "vmnet, since this is a Mac"
    if backend is Backend.USER:
        return UserUplink(config, network_id), "user, asked for with --backend=user"
    if backend is Backend.AUTO and not effective_capabilities() >> CAP_NET_ADMIN & 1:
        return UserUplink(config, network_id), "user, since configuring this host's network (linux) needs root"
    if backend is Backend.LINUX:
        return LinuxUplink(config, network_id), "linux, asked for with --backend=linux"
    return LinuxUplink(config, network_id), "linux, since we may configure the network of this host"
