"""``vde_vmnet leases``: which guest has which address, from the files of the DHCP server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from vde_vmnet import recovery, undo_files
from vde_vmnet.config.arguments import Parser
from vde_vmnet.config.model import network_id
from vde_vmnet.errors import PrivilegeError, UnavailableError
from vde_vmnet.uplinks.vmnet import library, paths
from vde_vmnet.wire.leases import Lease, parse_dhcpd, parse_dnsmasq

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Raises PrivilegeError (may not be read), UnavailableError (no such network), ConfigurationError."""
    parser = Parser(
        prog="vde_vmnet leases",
        description="Print the addresses that were handed out: on Linux by the running networks, or the one"
        " at VDESWITCH; on macOS all of the system's DHCP server.",
    )
    parser.add_argument("--json", action="store_true", help="as one line of JSON")
    parser.add_argument("vdeswitch", metavar="VDESWITCH", nargs="?", help="one network (Linux only)")
    options = parser.parse_args(argv)
    if library.is_macos():
        leases = parse_dhcpd(_read(paths.MACOS.dhcpd_leases))
    else:
        leases = [lease for file in _files(options.vdeswitch) for lease in parse_dnsmasq(_read(file))]
    leases.sort(key=lambda lease: (lease.address.version, int(lease.address)))
    sys.stdout.write(_as_json(leases) if options.json else _as_table(leases))
    return 0


def _files(vdeswitch: str | None) -> list[Path]:
    """The lease files of running networks of this network namespace."""
    which = network_id(Path(os.path.realpath(vdeswitch))) if vdeswitch is not None else "*"
    files = sorted(recovery.STATE_DIRECTORY.glob(f"{which}.{undo_files.namespace()}.leases"))
    if vdeswitch is not None and not files:
        raise UnavailableError(
            f'No network with addresses to hand out runs at "{vdeswitch}"',
            next_step="Name the first VDESWITCH that its daemon was started with",
        )
    return files


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except PermissionError:
        raise PrivilegeError(f"{path} may not be read by this user", next_step="Run with sudo") from None


def _as_json(leases: Sequence[Lease]) -> str:
    plain = [
        {"address": str(one.address), "mac": one.mac, "name": one.name, "expires": one.expires}
        for one in leases
    ]
    return f"{json.dumps(plain)}\n"


def _as_table(leases: Sequence[Lease]) -> str:
    if not leases:
        return "No leases\n"
    rows = [("ADDRESS", "MAC", "NAME", "EXPIRES")]
    for one in leases:
        ends = "never" if one.expires is None else datetime.fromtimestamp(one.expires, UTC).isoformat()
        rows.append((str(one.address), one.mac or "-", one.name or "-", ends))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) + "\n"
        for row in rows
    )
