"""What ``vde_vmnet doctor`` looks at on a Mac. Reads and asks, changes nothing."""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Network

from vde_vmnet.errors import ConflictError, PrivilegeError, UnavailableError
from vde_vmnet.uplinks.check import Check, Level
from vde_vmnet.uplinks.vmnet import library, paths
from vde_vmnet.uplinks.vmnet.abi import Binding

__all__ = ["bootpd_check", "bootpd_job_check", "checks", "internet_sharing_check", "routed", "vpn_check"]

# Chosen: these commands end in milliseconds.
_SECONDS = 10.0
#: A default route, and the halves that VPNs set beside it, as netstat writes them.
_WIDE = ("default", "0/1", "128.0/1", "128/1")
#: The first symbol of each macOS that changed something for us, newest first.
_GENERATIONS = (
    ("vmnet_network_create", "macOS 26 or newer"),
    ("vmnet_enable_virtio_header_key", "macOS 15.4 or newer"),
    ("vmnet_read_max_packets_key", "macOS 15"),
    ("vmnet_enable_checksum_offload_key", "macOS 12 to 14"),
    ("vmnet_network_identifier_key", "macOS 11"),
)


def checks(wanted: IPv4Network | None) -> Iterator[Check]:
    """Everything, in the order in which a start would meet it. ``wanted``: the subnet asked for."""
    try:
        binding = Binding(library.load())
    except UnavailableError as error:
        yield Check("vmnet.framework", error.message, UnavailableError, error.next_step)
        return
    generation = _generation(binding)
    if generation is None:
        yield Check("vmnet.framework", "older than macOS 11", UnavailableError, "Update macOS")
    else:
        yield Check("vmnet.framework", f"there, of {generation}")
    yield _privilege(network_api=binding.has("vmnet_network_create"))
    yield internet_sharing_check()
    yield bootpd_check(_firewall)
    yield bootpd_job_check(_output(["/bin/launchctl", "print-disabled", "system"]))
    yield vpn_check(_output(["/usr/sbin/netstat", "-rn", "-f", "inet"]).splitlines())
    if wanted is not None:
        yield _subnet(wanted)


def _generation(binding: Binding) -> str | None:
    for symbol, name in _GENERATIONS:
        if binding.has_key(symbol) if symbol.endswith("_key") else binding.has(symbol):
            return name
    return None


def _privilege(*, network_api: bool) -> Check:
    if os.geteuid() == 0:
        return Check("privilege", "root")
    if network_api:
        return Check(
            "privilege",
            "not root: works only when this Python is signed with com.apple.security.virtualization",
            next_step="If a start is refused, run with sudo",
            level=Level.NOTE,
        )
    return Check("privilege", "not root, which vmnet needs before macOS 26", PrivilegeError, "Run with sudo")


def internet_sharing_check() -> Check:
    """Whether the service that shared mode wants is taken, from where System Settings keep it."""
    try:
        settings = plistlib.loads(paths.MACOS.internet_sharing.read_bytes())
        on = bool(settings.get("NAT", {}).get("Enabled"))
    except (OSError, plistlib.InvalidFileException, AttributeError):
        return Check("Internet Sharing", "off, as far as can be seen")
    if not on:
        return Check("Internet Sharing", "off")
    return Check(
        "Internet Sharing",
        "on: shared mode is refused as long as it is",
        ConflictError,
        "Turn it off in System Settings, General, Sharing, or use --vmnet-mode=bridged",
        'macOS has one such service, and a start ends with "sharing service busy"',
    )


def _firewall(*arguments: str) -> str:
    """What the application firewall says; empty when it cannot be asked."""
    return _output([str(paths.MACOS.firewall), *arguments])


def bootpd_check(ask: Callable[..., str]) -> Check:
    """Whether the application firewall lets the DHCP server answer; ``ask`` runs its command."""
    place = paths.MACOS
    state = ask("--getglobalstate")
    if not state:
        return Check("application firewall", "cannot be asked here", level=Level.UNSEEN)
    if not re.search(r"State = [12]|is enabled", state):
        return Check("application firewall", "off")
    about = ask("--getappblocked", str(place.bootpd))
    if "block" not in about or "not blocked" in about or "permitted" in about:
        return Check("application firewall", "on, and lets the DHCP server (bootpd) answer")
    return Check(
        "application firewall",
        f"blocks {place.bootpd}",
        ConflictError,
        " && ".join(
            f"sudo {place.firewall} {action} {place.bootpd}" for action in ("--remove", "--add", "--unblock")
        )
        + " (a managed Mac may not allow it)",
        "guests get no IPv4 address",
    )


def bootpd_job_check(disabled: str) -> Check:
    """Whether launchd may start the DHCP server, from `launchctl print-disabled system`."""
    what = "DHCP server"
    match = re.search(r'"com\.apple\.bootpd"\s*=>\s*(\w+)', disabled)
    if match is not None and match[1] in ("true", "disabled"):
        return Check(
            what,
            "launchd may not start com.apple.bootpd",
            ConflictError,
            "sudo launchctl enable system/com.apple.bootpd",
            "guests get no IPv4 address",
        )
    if not disabled:
        return Check(what, "launchd cannot be asked about com.apple.bootpd", level=Level.UNSEEN)
    return Check(what, "launchd may start com.apple.bootpd")


def vpn_check(lines: Sequence[str]) -> Check:
    """Whether the way out leads through a VPN, from ``netstat -rn -f inet``."""
    for line in lines:
        fields = line.split()
        if len(fields) >= 4 and fields[0] in _WIDE and re.match(r"utun|ppp|ipsec", fields[3]):
            return Check(
                "VPN",
                f"{fields[3]} takes this Mac's way out",
                next_step="Leave it, exclude the guests' subnet in it, or choose another --vmnet-gateway",
                why="some take the way of the guests' subnet too, or refuse what is forwarded for others",
                level=Level.WARNING,
            )
    return Check("VPN", "takes no way out")


def _subnet(wanted: IPv4Network) -> Check:
    for network, device in routed(_output(["/usr/sbin/netstat", "-rn", "-f", "inet"]).splitlines()):
        if wanted.overlaps(network):
            return Check(
                f"subnet {wanted}",
                f"this host already reaches {network} through {device}",
                ConflictError,
                "Choose another --vmnet-gateway, unless that is this network, running already",
                "a start is refused",
            )
    return Check(f"subnet {wanted}", "free")


def routed(lines: Sequence[str]) -> Iterator[tuple[IPv4Network, str]]:
    """The networks of ``netstat -rn -f inet`` and their interfaces; host routes and default routes left out."""
    for line in lines:
        fields = line.split()
        if len(fields) < 4 or not re.fullmatch(r"[\d.]+(/\d+)?", fields[0]):
            continue
        octets, _, length = fields[0].partition("/")
        numbers = octets.split(".")
        # An abbreviated network without a length has one that ends with its last octet.
        bits = int(length) if length else 8 * len(numbers)
        try:
            network = IPv4Network((".".join((numbers + ["0"] * 4)[:4]), bits), strict=False)
        except ValueError:
            continue
        if 0 < network.prefixlen < 32 and not network.is_loopback and not network.is_multicast:
            yield network, fields[3]


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
