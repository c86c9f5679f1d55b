"""``vde_vmnet leases``: which guest has which address, on every network that runs.

The daemons are asked; where one has no control socket, the files of its DHCP server are read, which is what
there is on macOS without a daemon, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

from vde_vmnet import recovery, undo_files
from vde_vmnet.cli import observing
from vde_vmnet.config.model import network_id
from vde_vmnet.control import paths as control_paths
from vde_vmnet.control.models import Lease
from vde_vmnet.errors import PrivilegeError, UnavailableError, VdeVmnetError
from vde_vmnet.observe import views
from vde_vmnet.uplinks.vmnet import library, paths
from vde_vmnet.wire import leases as files
from vde_vmnet.wire.leases import parse_dhcpd, parse_dnsmasq

__all__ = ["build_parser", "main"]


def build_parser() -> argparse.ArgumentParser:
    """What ``leases`` knows."""
    parser = observing.build(
        "leases",
        "[OPTION]... [VDESWITCH]",
        "Print the addresses that were handed out by the running networks, or the one at VDESWITCH; on macOS"
        " those of the system's DHCP server too.",
        epilog="Exit status: 0; 1 wrong usage; 3 no such network; 4 this user may not see them.\n",
    )
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    observing.add_network(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Raises PrivilegeError (may not be read), UnavailableError (no such network), ConfigurationError."""
    options = observing.parse(build_parser(), list(argv))
    if options is None:
        return 0
    found = _one(options.vdeswitch) if options.vdeswitch is not None else _all()
    unique = {(one.address, one.mac): one for one in reversed(found)}
    leases = sorted(unique.values(), key=_order)
    if options.json:
        observing.write_json(leases)
    elif leases or not sys.stdout.isatty():
        observing.show(views.leases(leases))
    else:
        sys.stdout.write("No leases\n")
    return 0


def _order(one: Lease) -> tuple[int, bytes]:
    address = ip_address(one.address)
    return address.version, address.packed


def _one(vdeswitch: str) -> list[Lease]:
    try:
        with observing.network(vdeswitch) as client:
            return client.leases()
    except UnavailableError:
        if library.is_macos():
            return _of_files([paths.MACOS.dhcpd_leases])
        return _of_files(_files(vdeswitch))


def _all() -> list[Lease]:
    """What the daemons say comes first: they know ports and reservations."""
    found: list[Lease] = []
    controls = list(control_paths.find())
    for control in controls:
        try:
            with observing.network(str(control)) as client:
                found += client.leases()
        except UnavailableError:
            continue  # it ended just now
    try:
        found += _of_files([paths.MACOS.dhcpd_leases] if library.is_macos() else _files(None))
    except VdeVmnetError:
        if not controls:
            raise
    return found


def _files(vdeswitch: str | None) -> list[Path]:
    """The lease files of running networks of this network namespace."""
    which = network_id(Path(os.path.realpath(vdeswitch))) if vdeswitch is not None else "*"
    listed = sorted(recovery.STATE_DIRECTORY.glob(f"{which}.{undo_files.namespace()}.leases"))
    if vdeswitch is not None and not listed:
        raise UnavailableError(
            f'No network with addresses to hand out runs at "{vdeswitch}"',
            next_step="Name the first VDESWITCH that its daemon was started with",
        )
    return listed


def _of_files(listed: Iterable[Path]) -> list[Lease]:
    parse = parse_dhcpd if library.is_macos() else parse_dnsmasq
    return [_lease(one) for path in listed for one in parse(_read(path))]


def _lease(one: files.Lease) -> Lease:
    return Lease(address=str(one.address), mac=one.mac, name=one.name, expires=one.expires)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except PermissionError:
        raise PrivilegeError(f"{path} may not be read by this user", next_step="Run with sudo") from None
