"""What is asked of vmnet for a configuration: which of its two interfaces, and with which entries. Pure.

The classic interface is one call with a dictionary. macOS 26 adds networks that are configured first; they can
do more, but not everything that the classic call does, so they are used only for the options that need them.
"""

from __future__ import annotations

from uuid import UUID

from vde_vmnet.addresses import Ipv4Plan, digest
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError, UnavailableError
from vde_vmnet.uplinks.vmnet.abi import OperatingMode
from vde_vmnet.uplinks.vmnet.offload import Offload
from vde_vmnet.uplinks.vmnet.offload import entries as offload_entries
from vde_vmnet.uplinks.vmnet.xpc import Entry

__all__ = ["MODES", "check", "classic", "in_network", "interface_id", "losses", "network_options", "too_old"]

MODES = {Mode.HOST: OperatingMode.HOST, Mode.SHARED: OperatingMode.SHARED, Mode.BRIDGED: OperatingMode.BRIDGED}


def check(config: UplinkConfig) -> None:
    """What vmnet cannot do on any macOS. Raises ConfigurationError that names the option."""
    if config.mode is Mode.BRIDGED:
        return
    for forward in config.forwards:
        if forward.host is not None:
            raise ConfigurationError(
                f"--forward {forward}: vmnet forwards from every address of the host, not from one alone",
                next_step=f"Leave {forward.host} out",
            )
        if config.ipv4 is not None and forward.guest not in config.ipv4.network:
            raise ConfigurationError(f"--forward {forward}: {forward.guest} is outside {config.ipv4.network}")
    plan = config.ipv4
    if plan is None:
        if config.reservations:
            raise ConfigurationError(
                "--reserve requires --vmnet-gateway here, since macOS would choose the subnet",
                next_step="For example --vmnet-gateway=192.168.105.1",
            )
        return
    if not plan.network.is_private or plan.network.is_link_local:
        raise ConfigurationError(
            f"--vmnet-gateway {plan.gateway} is not private, and vmnet takes only private subnets",
            next_step="Choose one in 192.168.0.0/16, 172.16.0.0/12 or 10.0.0.0/8",
        )
    seen: set[str] = set()
    for one in config.reservations:
        said = f"--reserve {one.mac}={one.address}"
        if one.address not in plan.network:
            raise ConfigurationError(f"{said} is outside the subnet {plan.network}")
        if one.address in (plan.gateway, plan.network.network_address, plan.network.broadcast_address):
            raise ConfigurationError(f"{said} is not the address of a guest in {plan.network}")
        if repeated := seen & {str(one.mac), str(one.address)}:
            raise ConfigurationError(f"{said} repeats {repeated.pop()}")
        seen |= {str(one.mac), str(one.address)}


def network_options(config: UplinkConfig) -> list[str]:
    """The options for which the network interface of macOS 26 is used where there is one."""
    wanted = {
        "--reserve": bool(config.reservations),
        "--forward": bool(config.forwards),
        # A network identifier turns DHCP off by itself, in the classic interface only.
        "--vmnet-disable-dhcp": not config.dhcp and config.network_identifier is None,
    }
    return [] if config.mode is Mode.BRIDGED else [option for option, given in wanted.items() if given]


def too_old(config: UplinkConfig) -> None:
    """For a macOS without that interface. Raises UnavailableError for what the classic one cannot do."""
    if config.mode is Mode.SHARED and not config.dhcp:
        raise UnavailableError(
            "--vmnet-disable-dhcp in shared mode needs macOS 26, and this macOS is older",
            next_step="Use --vmnet-mode=host with it, or keep static addresses above --vmnet-dhcp-end",
        )


def losses(config: UplinkConfig, options: list[str]) -> list[str]:
    """What the network interface of macOS 26, used for ``options``, does not do, one line each.

    Raises ConfigurationError where it cannot do what was asked at all.
    """
    given = {
        "--vmnet-interface-id": config.interface_id is not None,
        "--vmnet-network-identifier": config.network_identifier is not None,
    }
    plan = config.ipv4
    if plan is not None:
        first = plan.network[1]
        if plan.gateway != first:
            raise ConfigurationError(
                f"--vmnet-gateway {plan.gateway}: with {options[0]} macOS takes the first address of a subnet",
                next_step=f"Use --vmnet-gateway={first}",
            )
        usual = Ipv4Plan.build(plan.gateway, str(plan.network.netmask), None)
        given["--vmnet-dhcp-end"] = plan.dhcp_end != usual.dhcp_end
    return [f"{option} has no effect together with {options[0]}" for option, yes in given.items() if yes]


def classic(config: UplinkConfig, network_id: str, offload: Offload = Offload.NONE) -> list[Entry]:
    """The description for ``vmnet_start_interface``."""
    entries = [
        Entry("vmnet_operation_mode_key", int(MODES[config.mode])),
        Entry("vmnet_interface_id_key", interface_id(config, network_id)),
    ]
    if config.mode is Mode.BRIDGED:
        return [
            *entries,
            Entry("vmnet_shared_interface_name_key", config.interface or "", "--vmnet-mode=bridged"),
            *offload_entries(offload),
        ]
    identifier = config.network_identifier
    if identifier is None and config.mode is Mode.HOST and not config.dhcp:
        # Before macOS 26 the only way to a host network without DHCP.
        identifier = _made_up(network_id, "network")
    if identifier is not None:
        option = "--vmnet-network-identifier" if config.network_identifier else "--vmnet-disable-dhcp"
        entries.append(Entry("vmnet_network_identifier_key", identifier, option))
    if config.ipv4 is not None:
        entries += _addresses(config.ipv4, identified=identifier is not None)
    if config.nat66_prefix is not None and config.mode is Mode.SHARED:
        entries.append(
            Entry("vmnet_nat66_prefix_key", str(config.nat66_prefix.network_address), "--vmnet-nat66-prefix")
        )
    if config.mtu is not None:
        entries.append(Entry("vmnet_mtu_key", config.mtu, "--vmnet-mtu"))
    return entries + in_network(config, offload)


def in_network(config: UplinkConfig, offload: Offload = Offload.NONE) -> list[Entry]:
    """The description for ``vmnet_interface_start_with_network``: all else belongs to the network."""
    isolation = Entry("vmnet_enable_isolation_key", True, "--vmnet-enable-isolation")
    return [*([isolation] if config.isolation else []), *offload_entries(offload)]


def interface_id(config: UplinkConfig, network_id: str) -> UUID:
    """vmnet gives the same MAC address to the same id, so it is the same at each start of a network."""
    return config.interface_id or _made_up(network_id, "interface")


def _addresses(plan: Ipv4Plan, *, identified: bool) -> list[Entry]:
    if identified:
        # Without a DHCP server there is no range: the keys are those of the host's own address.
        return [
            Entry("vmnet_host_ip_address_key", str(plan.gateway), "--vmnet-gateway"),
            Entry("vmnet_host_subnet_mask_key", str(plan.network.netmask), "--vmnet-gateway"),
        ]
    return [
        Entry("vmnet_start_address_key", str(plan.gateway), "--vmnet-gateway"),
        Entry("vmnet_end_address_key", str(plan.dhcp_end), "--vmnet-gateway"),
        Entry("vmnet_subnet_mask_key", str(plan.network.netmask), "--vmnet-gateway"),
    ]


def _made_up(network_id: str, what: str) -> UUID:
    """A UUID in the form of version 5 that depends on the network alone."""
    halves = (digest(f"vde_vmnet {what} {half} {network_id}".encode(), 8) for half in "ab")
    return UUID(bytes=b"".join(halves), version=5)
