"""Command line to model: the original's options to the letter, and ours beside them.

``argparse`` behaves here as the original's ``getopt_long`` did: unambiguous abbreviations, ``--name=value``
and ``--name value``, options after the switch directory too, the last of a repeated option wins.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import NoReturn
from uuid import UUID

from vde_vmnet.addresses import Forward, Ipv4Plan, NamedForward, Reservation
from vde_vmnet.config import access, console, control, listeners, network, switch
from vde_vmnet.config.choice import choice
from vde_vmnet.config.model import Backend, DaemonConfig, Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError

__all__ = ["GnuHelp", "Parser", "add_vmnet_options", "build_parser", "parse"]

_DEFAULT_MASK = "255.255.255.0"
#: RFC 4193: the locally assigned half of fc00::/7.
_ULA = IPv6Network("fd00::/8")
_DESCRIPTION = """\
A real network for rootless virtual machines. Guests run as an ordinary user and plug into the VDE switch
directory VDESWITCH, such as /var/run/vde.ctl, or into a socket of another kind; only this daemon needs
privilege, and it drops it once the network is open.
"""
_EPILOG = """\
With a command of its own as the first word:
  vde_vmnet dashboard           show a running network in the browser
  vde_vmnet demo                show a rootless guest on a network, in namespaces of its own
  vde_vmnet doctor              say what is in the way of a network on this host
  vde_vmnet run -- COMMAND...   run a VM with its network, which ends with it
  vde_vmnet status, top, ports, fdb, leases, events, logs, capture
                                look at a running network
  vde_vmnet kick, port, reserve, forward, log-level, reload, shutdown
                                change a running network
  vde_vmnet install, uninstall  as a service of launchd or systemd; --dry-run shows the plan
  vde_vmnet sudoers [--lima]    print the rules with which users, or Lima, may run it with sudo
  vde_vmnet completion SHELL    print the completion script of bash, zsh or fish

Environment:
  DEBUG                         any value: log more

Exit status: 0 after SIGINT, SIGTERM or SIGHUP; 1 wrong usage; 3 something is missing on this machine;
4 not permitted; 5 already in use; 6 the uplink failed; 7 it could not be installed; 70 a bug.
"""


class Parser(argparse.ArgumentParser):
    """Reports through the exception tree instead of ending the process."""

    def parse_args(  # type: ignore[override]  # of its overloads, the one that is used
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Options may stand between the arguments too, as ``getopt_long`` allows."""
        return self.parse_intermixed_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(message[:1].upper() + message[1:])


class GnuHelp(argparse.RawDescriptionHelpFormatter):
    """The original's look: ``-p, --pidfile=PIDFILE``."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        *short, long = action.option_strings
        return ", ".join([*short, long if action.nargs == 0 else f"{long}={action.metavar}"])


def build_parser() -> argparse.ArgumentParser:
    """The daemon's parser; its help text is the manual's option table."""
    parser = Parser(
        prog="vde_vmnet",
        usage="vde_vmnet [OPTION]... [VDESWITCH]...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=GnuHelp,
        add_help=False,
    )
    add = parser.add_argument
    # Every value is taken as text, so that each check and its message is in one place below.
    switch.add_options(add)
    listeners.add_options(add)
    console.add_options(add)
    control.add_options(add)
    add_vmnet_options(add)
    network.add_options(add)
    add(
        "--reserve",
        metavar="MAC=IP[,NAME]",
        action="append",
        default=[],
        help="keep an address, and a name, for a guest; can be repeated",
    )
    add(
        "--backend",
        metavar="(auto|linux|vmnet|user|none)",
        help="uplink: the Linux kernel, macOS's vmnet, a TCP/IP stack in this process that needs no root, or"
        " none for an isolated switch (default: auto, the first one that the caller may use)",
    )
    access.add_options(add)
    add("--user", metavar="USER", help="user to serve as (default: who called sudo, else nobody)")
    add("-p", "--pidfile", metavar="PIDFILE", help="save pid to PIDFILE when the network is ready")
    add("--json", action="store_true", help="when ready, print what the uplink is like as one line of JSON")
    add("-h", "--help", action="store_true", help="display this help and exit")
    add("-v", "--version", action="store_true", help="display version information and exit")
    add("vdeswitch", metavar="VDESWITCH", nargs="*", help=argparse.SUPPRESS)
    return parser


def add_vmnet_options(add: Callable[..., object]) -> None:
    """What vmnet calls a network; the same in every program of the family. ``add`` is ``add_argument``."""
    add("--vmnet-mode", metavar="(host|shared|bridged)", help='vmnet mode (default: "shared")')
    add(
        "--vmnet-interface",
        metavar="INTERFACE",
        help='interface for --vmnet-mode=bridged, e.g. "eth0", "br0", or "en0" on macOS',
    )
    add(
        "--vmnet-gateway",
        metavar="IP",
        help='gateway for --vmnet-mode=(host|shared), e.g. "192.168.105.1" (default: of a free subnet);'
        " the next address is the first of the DHCP range",
    )
    add(
        "--vmnet-dhcp-end",
        metavar="IP",
        help="end of the DHCP range (default: XXX.XXX.XXX.254); requires --vmnet-gateway",
    )
    add(
        "--vmnet-mask",
        metavar="MASK",
        help=f'subnet mask (default: "{_DEFAULT_MASK}"); requires --vmnet-gateway',
    )
    add(
        "--vmnet-interface-id",
        metavar="UUID",
        help="interface ID; the same one gives the same MAC (default: made from VDESWITCH)",
    )
    add(
        "--vmnet-network-identifier",
        metavar="UUID",
        help="network identifier; --vmnet-mode=host only, and turns DHCP off",
    )
    add(
        "--vmnet-nat66-prefix",
        metavar="PREFIX::",
        help="IPv6 prefix for --vmnet-mode=(host|shared), a ULA, i.e. in fd00::/8 (default: no IPv6)",
    )
    add("--vmnet-disable-dhcp", action="store_true", help="hand out no addresses")


def parse(arguments: argparse.Namespace, *, debug: bool, warn: Callable[[str], None]) -> DaemonConfig:
    """Check everything that can be checked without touching the machine, in the original's order.

    ``warn`` gets one line for each thing that is allowed but rarely meant. Raises ConfigurationError that
    names the option at fault.
    """
    beside = listeners.parse(arguments)
    first, *more = switch.parse(arguments, listeners.network_name(beside))
    return DaemonConfig(
        switch=first,
        more_switches=tuple(more),
        listeners=beside,
        console=console.parse(arguments),
        control=control.parse(arguments),
        log=control.log_config(arguments, debug=debug),
        uplink=_uplink(arguments, warn),
        backend=choice(Backend, arguments.backend, "Unknown --backend", Backend.AUTO),
        user=arguments.user,
        pidfile=Path(arguments.pidfile).absolute() if arguments.pidfile else None,
        busy_poll=network.busy_poll(arguments),
        json=arguments.json,
    )


def _uplink(arguments: argparse.Namespace, warn: Callable[[str], None]) -> UplinkConfig:
    mode = choice(Mode, arguments.vmnet_mode, "Unknown vmnet mode", Mode.SHARED)
    isolated = arguments.backend == Backend.NONE.value
    interface_id = _uuid("--vmnet-interface-id", arguments.vmnet_interface_id)
    identifier = _uuid("--vmnet-network-identifier", arguments.vmnet_network_identifier)
    if mode is Mode.BRIDGED and arguments.vmnet_interface is None and not isolated:
        raise ConfigurationError('vmnet mode "bridged" requires --vmnet-interface to be specified')
    if mode is not Mode.BRIDGED and arguments.vmnet_interface is not None:
        warn("--vmnet-interface=INTERFACE has no effect without --vmnet-mode=bridged")
    ipv4 = _ipv4(arguments, mode)
    if ipv4 is None and mode is not Mode.BRIDGED and not isolated:
        warn("--vmnet-gateway=IP should be explicitly specified to avoid conflicting with other applications")
    if identifier is not None:
        if mode is not Mode.HOST:
            raise ConfigurationError("--vmnet-network-identifier=UUID requires --vmnet-mode=host")
        warn("--vmnet-network-identifier=UUID turns DHCP off")
    nat66_prefix = _prefix(arguments.vmnet_nat66_prefix)
    reservations = _reservations(arguments.reserve)
    rules = access.parse(arguments)
    forwards = network.forwards(arguments, mode, reservations)
    if mode is Mode.BRIDGED:
        options = {"--vmnet-nat66-prefix": nat66_prefix, "--reserve": reservations, "--allow and --deny": rules}
        for option, given in options.items():
            if given:
                raise ConfigurationError(
                    f'vmnet mode "bridged" conflicts with {option}',
                    next_step="On a bridged network addresses come from its own router",
                )
    if isolated and (ipv4 or nat66_prefix or reservations or arguments.vmnet_mode or arguments.forward):
        warn("--backend=none is a switch without a host: --vmnet-*, --reserve and --forward have no effect")
    if mode is Mode.BRIDGED and arguments.vmnet_disable_dhcp:
        warn("--vmnet-disable-dhcp has no effect with --vmnet-mode=bridged, which has no DHCP server of ours")
    return UplinkConfig(
        mode=mode,
        interface=arguments.vmnet_interface if mode is Mode.BRIDGED else None,
        ipv4=ipv4,
        interface_id=interface_id,
        network_identifier=identifier,
        nat66_prefix=nat66_prefix,
        dhcp=not arguments.vmnet_disable_dhcp and identifier is None,
        reservations=reservations,
        forwards=tuple(one for one in forwards if isinstance(one, Forward)),
        named_forwards=tuple(one for one in forwards if isinstance(one, NamedForward)),
        mtu=network.mtu(arguments, mode, ipv6=nat66_prefix is not None),
        isolation=network.isolation(arguments, mode),
        offload=network.offload(arguments),
        start_timeout=network.start_timeout(arguments),
        rules=rules,
    )


def _ipv4(arguments: argparse.Namespace, mode: Mode) -> Ipv4Plan | None:
    if arguments.vmnet_gateway is None:
        if arguments.vmnet_dhcp_end is not None:
            raise ConfigurationError("--vmnet-dhcp-end=IP requires --vmnet-gateway=IP")
        if arguments.vmnet_mask is not None:
            raise ConfigurationError("--vmnet-mask=MASK requires --vmnet-gateway=IP")
        return None
    if mode is Mode.BRIDGED:
        raise ConfigurationError('vmnet mode "bridged" conflicts with --vmnet-gateway')
    gateway = _ipv4_address("--vmnet-gateway", arguments.vmnet_gateway)
    end = None
    if arguments.vmnet_dhcp_end is not None:
        end = _ipv4_address("--vmnet-dhcp-end", arguments.vmnet_dhcp_end)
    try:
        return Ipv4Plan.build(gateway, arguments.vmnet_mask or _DEFAULT_MASK, end)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _ipv4_address(option: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise ConfigurationError(f'invalid address "{text}" was specified for {option}') from None


def _prefix(text: str | None) -> IPv6Network | None:
    if text is None:
        return None
    bare, slash, length = text.partition("/")
    try:
        address = IPv6Address(bare)
    except ValueError:
        raise ConfigurationError(
            f'invalid prefix "{text}" was specified for --vmnet-nat66-prefix',
            next_step="Write it like fd12:3456:789a::",
        ) from None
    if slash and length != "64":
        raise ConfigurationError(f'--vmnet-nat66-prefix "{text}" must be a /64, which is also the default')
    if address not in _ULA:
        raise ConfigurationError(
            f'--vmnet-nat66-prefix "{text}" is not a ULA (fd00::/8)', next_step="Write it like fd12:3456:789a::"
        )
    if int(address) & ((1 << 64) - 1):
        raise ConfigurationError(f'--vmnet-nat66-prefix "{text}" has bits set beyond the first 64')
    return IPv6Network((address, 64))


def _reservations(texts: Sequence[str]) -> tuple[Reservation, ...]:
    found = []
    for text in texts:
        try:
            found.append(Reservation.parse(text))
        except ValueError as error:
            raise ConfigurationError(f"--reserve: {error}") from None
    return tuple(found)


def _uuid(option: str, text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError(f'Failed to parse UUID "{text}" of {option}') from None
