"""The commands that change a running network: ports, reservations, forwards, log level, reload, shutdown.

Who may: root, the daemon's user, and who started it; the daemon decides.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import cast, get_args

from vde_vmnet.addresses import MacAddress, NamedForward, Reservation
from vde_vmnet.cli import observing
from vde_vmnet.control import models
from vde_vmnet.control.client import Client
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.observe.tables import Column, Table

__all__ = [
    "forward_main",
    "forward_parser",
    "kick_main",
    "kick_parser",
    "log_level_main",
    "log_level_parser",
    "port_main",
    "port_number",
    "port_parser",
    "reload_main",
    "reload_parser",
    "reserve_main",
    "reserve_parser",
    "shutdown_main",
    "shutdown_parser",
]

_WHO = "Root, the daemon's user and who started it may do this."
_EPILOG = """\
VDESWITCH is that of a running network, or the path of its control socket (default: the only one that runs).
Exit status: 0 when it was done; 1 wrong usage, or nothing of the kind is there; 3 no such network, or its
uplink cannot do that; 4 not permitted; 5 it is taken.
"""
#: What stands for a port: its number, or a guest's name, MAC or IP address.
_PORT_HELP = "its number, or the guest's name, MAC address or IP address; uplink for the way to the host"


def _parser(name: str, usage: str, description: str) -> argparse.ArgumentParser:
    return observing.build(name, usage, f"{description} {_WHO}", epilog=_EPILOG)


def _done(parser: argparse.ArgumentParser, argv: Sequence[str], change: Callable[..., str]) -> int:
    """Have it done and say what was done."""
    options = observing.parse(parser, list(argv))
    if options is None:
        return 0
    with observing.network(options.vdeswitch) as client:
        sys.stdout.write(f"{change(client, options)}\n")
    return 0


def port_number(client: Client, text: str) -> int:
    """The number of the port that is meant. Raises ConfigurationError."""
    if text.isdecimal() and len(text) <= 5:
        return int(text)
    wanted = text.lower()
    found = [
        port.number
        for port in client.ports()
        if wanted in {port.name.lower(), *port.macs, *port.addresses} or (wanted == port.kind == "uplink")
    ]
    if len(found) != 1:
        raise ConfigurationError(
            f'"{text}" is {"no port" if not found else "on several ports: " + ", ".join(map(str, found))}',
            next_step="vde_vmnet ports lists them",
        )
    return found[0]


# -- ports ---------------------------------------------------------------------------------------------


def kick_parser() -> argparse.ArgumentParser:
    """What ``kick`` knows."""
    parser = _parser("kick", "[OPTION]... PORT [VDESWITCH]", "Unplug whoever is at PORT; they may come back.")
    parser.add_argument("port", metavar="PORT", help=_PORT_HELP)
    observing.add_network(parser)
    return parser


def kick_main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    return _done(kick_parser(), argv, lambda client, options: client.kick(port_number(client, options.port)))


def port_parser() -> argparse.ArgumentParser:
    """What ``port`` knows."""
    parser = _parser(
        "port",
        "[OPTION]... (down|up) PORT [VDESWITCH]",
        "Take a port down, so that it forwards nothing, or up again. Its guest stays plugged in.",
    )
    parser.add_argument("state", metavar="(down|up)", help="what it shall be")
    parser.add_argument("port", metavar="PORT", help=_PORT_HELP)
    observing.add_network(parser)
    return parser


def port_main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""

    def change(client: Client, options: argparse.Namespace) -> str:
        if options.state not in ("down", "up"):
            raise ConfigurationError(f'"{options.state}" is neither down nor up')
        number = port_number(client, options.port)
        return client.port_up(number) if options.state == "up" else client.port_down(number)

    return _done(port_parser(), argv, change)


# -- reservations and forwards -------------------------------------------------------------------------

_ACTIONS = ("add", "remove", "list")


def _listed(options: argparse.Namespace, what: str) -> None:
    """``list`` has no value: what stands there is the network. Raises ConfigurationError."""
    if options.action == "list":
        if options.vdeswitch is not None:
            raise ConfigurationError(f'"{options.vdeswitch}" is one argument too many')
        options.vdeswitch, options.value = options.value, None
    elif options.value is None:
        raise ConfigurationError(f"{options.action} needs {what}")


def reserve_parser() -> argparse.ArgumentParser:
    """What ``reserve`` knows."""
    parser = _parser(
        "reserve",
        "[OPTION]... (add MAC=IP[,NAME] | remove MAC | list) [VDESWITCH]",
        "Keep an address, and a name, for a guest from its next lease on, until the network ends.",
    )
    parser.add_argument("action", metavar="(add|remove|list)", help="what to do")
    parser.add_argument("value", metavar="MAC=IP[,NAME]", nargs="?", help="as with --reserve; MAC to remove it")
    observing.add_network(parser)
    return parser


def reserve_main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    options = observing.parse(reserve_parser(), list(argv))
    if options is None:
        return 0
    _check_action(options, "vde_vmnet reserve")
    _listed(options, "MAC=IP[,NAME]" if options.action == "add" else "a MAC address")
    try:
        if options.action == "add":
            wanted = Reservation.parse(options.value)
        elif options.action == "remove":
            mac = MacAddress.parse(options.value)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    with observing.network(options.vdeswitch) as client:
        if options.action == "list":
            found = client.reservations()
            rows = tuple((one.mac, one.address, one.name or "") for one in found)
            columns = (Column("MAC"), Column("ADDRESS"), Column("NAME"))
            observing.show(Table(columns, rows, "Nothing is reserved"))
            return 0
        if options.action == "add":
            said = client.add_reservation(str(wanted.mac), str(wanted.address), wanted.name)
        else:
            said = client.remove_reservation(str(mac))
    sys.stdout.write(f"{said}\n")
    return 0


def _check_action(options: argparse.Namespace, prog: str) -> None:
    if options.action not in _ACTIONS:
        raise ConfigurationError(
            f'"{options.action}" is none of {", ".join(_ACTIONS)}', next_step=f"See {prog} --help"
        )


def forward_parser() -> argparse.ArgumentParser:
    """What ``forward`` knows."""
    spec = "[tcp|udp:][HOSTADDR:]PORT:GUEST:PORT"
    parser = _parser(
        "forward",
        f"[OPTION]... (add {spec} | remove {spec} | list) [VDESWITCH]",
        "Open a port of the host that leads to a guest, until the network ends; or close it.",
    )
    parser.add_argument("action", metavar="(add|remove|list)", help="what to do")
    parser.add_argument("value", metavar=spec, nargs="?", help="as with --forward")
    observing.add_network(parser)
    return parser


def forward_main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    options = observing.parse(forward_parser(), list(argv))
    if options is None:
        return 0
    _check_action(options, "vde_vmnet forward")
    _listed(options, "[tcp|udp:][HOSTADDR:]PORT:GUEST:PORT")
    try:
        wanted = None if options.value is None else _forward(NamedForward.parse(options.value))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    with observing.network(options.vdeswitch) as client:
        if wanted is None:
            observing.show(_forwards(client.forwards()))
            return 0
        said = client.add_forward(wanted) if options.action == "add" else client.remove_forward(wanted)
    sys.stdout.write(f"{said}\n")
    return 0


def _forward(one: NamedForward) -> models.Forward:
    return models.Forward(
        protocol="udp" if one.protocol == "udp" else "tcp",
        host=None if one.host is None else str(one.host),
        host_port=one.host_port,
        guest=str(one.guest),
        guest_port=one.guest_port,
    )


def _forwards(found: Sequence[models.Forward]) -> Table:
    rows = tuple(
        (one.protocol, one.host or "", str(one.host_port), one.guest, str(one.guest_port)) for one in found
    )
    names = ("PROTOCOL", "HOST", "HOST_PORT", "GUEST", "GUEST_PORT")
    return Table(tuple(map(Column, names)), rows, "Nothing is forwarded")


# -- the network ---------------------------------------------------------------------------------------


def log_level_parser() -> argparse.ArgumentParser:
    """What ``log-level`` knows."""
    levels = "|".join(get_args(models.Level))
    parser = _parser(
        "log-level",
        "[OPTION]... [LEVEL] [VDESWITCH]",
        "Print what is logged at least, or set it while it runs.",
    )
    parser.add_argument("level", metavar=f"({levels})", nargs="?", help="without it the level is printed")
    observing.add_network(parser)
    return parser


def log_level_main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    options = observing.parse(log_level_parser(), list(argv))
    if options is None:
        return 0
    levels = get_args(models.Level)
    level = options.level
    if level not in (None, *levels):
        if options.vdeswitch is not None:
            raise ConfigurationError(f'"{level}" is none of {", ".join(levels)}')
        level, options.vdeswitch = None, level  # a network, and no level
    with observing.network(options.vdeswitch) as client:
        found = client.log_level() if level is None else client.set_log_level(cast("models.Level", level))
    sys.stdout.write(f"{found}\n")
    return 0


def reload_parser() -> argparse.ArgumentParser:
    """What ``reload`` knows."""
    parser = _parser(
        "reload", "[OPTION]... [VDESWITCH]", "Have the daemon read again what it can while it runs."
    )
    observing.add_network(parser)
    return parser


def reload_main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    return _done(reload_parser(), argv, lambda client, _: "\n".join(client.reload()) or "Nothing has changed")


def shutdown_parser() -> argparse.ArgumentParser:
    """What ``shutdown`` knows."""
    parser = _parser("shutdown", "[OPTION]... [VDESWITCH]", "Take the network down, as SIGTERM does.")
    observing.add_network(parser)
    return parser


def shutdown_main(argv: Sequence[str]) -> int:
    """Raises VdeVmnetError."""
    return _done(shutdown_parser(), argv, lambda client, _: client.shutdown())
