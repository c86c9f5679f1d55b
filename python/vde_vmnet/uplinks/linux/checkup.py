"""What ``vde_vmnet doctor`` looks at on Linux. Reads and asks, changes nothing."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.doctor.tools import number
from vde_vmnet.errors import ConflictError, PrivilegeError, UnavailableError, UplinkError, VdeVmnetError
from vde_vmnet.uplinks.check import Check, Level
from vde_vmnet.uplinks.linux import LinuxUplink, children, firewall, link, programs, subnets, vpn
from vde_vmnet.uplinks.user import UserUplink

__all__ = ["checks", "forwarding_check", "may_configure"]

#: The program's option that prints its version.
_TOOLS = {"ip": "-V", "nft": "--version", "dnsmasq": "--version"}
#: Owned nftables tables, which vanish with the daemon.
_OLDEST_KERNEL = (5, 12)
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
#: Whether what a bridge passes on goes through iptables' rules, which Docker turns on.
_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
#: Loaded tables of the older iptables, which nft does not show.
_LEGACY = Path("/proc/net/ip_tables_names")
_UFW = Path("/etc/ufw/ufw.conf")
#: For a network that is still to come, where nothing is running.
_EXAMPLE = vpn.Network("vmnet-00000000", IPv4Network("192.168.105.0/24"))


def may_configure() -> bool:
    """Whether this process may configure the network of this host."""
    return bool(children.effective_capabilities() >> children.CAP_NET_ADMIN & 1)


def checks(wanted: IPv4Network | None) -> Iterator[Check]:
    """Everything, in the order in which a start would meet it. ``wanted``: the subnet asked for."""
    if link.TUN_DEVICE.exists():
        yield Check("TAP", f"{link.TUN_DEVICE} is there")
    else:
        yield Check("TAP", f"{link.TUN_DEVICE} does not exist", UnavailableError, "modprobe tun may help")
    yield _privilege()
    yield _kernel(platform.release())
    # Without privilege the network is the user-mode one, which needs none of these.
    needed = may_configure() or UserUplink(UplinkConfig(), "doctor").unavailable_reason() is not None
    for name, option in _TOOLS.items():
        yield _tool(name, option, needed=needed)
    for mode in Mode:
        reason = LinuxUplink(UplinkConfig(mode=mode), "doctor").unavailable_reason()
        said = "can be used" if reason is None else f"cannot be used: {reason}"
        yield Check(f"linux uplink, {mode.value} mode", said, level=Level.OK if reason is None else Level.NOTE)
    if wanted is not None:
        yield _subnet(wanted)
    yield from _host(wanted)


def _privilege() -> Check:
    if may_configure():
        return Check("privilege", "may configure the network")
    said = "may not configure the network"
    reason = UserUplink(UplinkConfig(), "doctor").unavailable_reason()
    if reason is None:
        return Check(
            "privilege",
            f"{said}: a start serves the user-mode network",
            next_step="For a network of the kernel, which is faster and reachable, run with sudo",
            level=Level.NOTE,
        )
    return Check("privilege", f"{said}, and without it: {reason}", PrivilegeError, "Run with sudo")


def _kernel(release: str) -> Check:
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is not None and (int(match[1]), int(match[2])) < _OLDEST_KERNEL:
        return Check(
            "kernel",
            f"Linux {release} is older than 5.12",
            next_step="Update the kernel",
            why="its nftables has no tables that vanish with their owner, which shared and host mode need",
            level=Level.WARNING,
        )
    return Check("kernel", f"Linux {release}")


def _tool(name: str, option: str, *, needed: bool) -> Check:
    path = programs.find(name)
    if path is None:
        hint = programs.install_hint([name])
        if needed:
            return Check(name, "not installed", UnavailableError, hint)
        return Check(name, "not installed", next_step=f"For a network of the kernel: {hint}", level=Level.NOTE)
    try:
        found = number(programs.run([name, option]))
    except VdeVmnetError as error:
        return Check(name, f"{path}: {error.message}", level=Level.WARNING, next_step="Install it again")
    return Check(name, f"{path}{f', {found}' if found else ''}")


def _subnet(wanted: IPv4Network) -> Check:
    try:
        taken = subnets.occupied_by(link.routes(4), link.addresses())
        subnets.check_free(wanted, taken, option="--vmnet-gateway")
    except ConflictError as error:
        return Check(f"subnet {wanted}", error.message, ConflictError, error.next_step, "a start is refused")
    except VdeVmnetError as error:
        return Check(f"subnet {wanted}", f"cannot be looked at: {error.message}", level=Level.UNSEEN)
    return Check(f"subnet {wanted}", "free")


def _host(wanted: IPv4Network | None) -> Iterator[Check]:
    """What of the host's own settings is in the guests' way."""
    try:
        links = json.loads(programs.run(["ip", "-j", "-d", "link", "show"]) or "[]")
        addresses, routes = link.addresses(), link.routes(4)
    except (VdeVmnetError, ValueError) as error:
        yield Check("routes", f"cannot be looked at: {error}", level=Level.UNSEEN)
        return
    yield from vpn.checks(links, addresses, routes)
    running = vpn.running(addresses)
    yield forwarding_check(_read(_FORWARD), [one.device for one in running])
    example = _EXAMPLE if wanted is None else vpn.Network(_EXAMPLE.device, wanted)
    way_out = vpn.default_device(routes) or "eth0"
    yield from _firewall(running, example, way_out, links)


def forwarding_check(text: str, devices: Sequence[str]) -> Check:
    """``text``: of the kernel's setting; ``devices``: those of networks that run."""
    what = "IP forwarding"
    if text.strip() == "1":
        return Check(what, "on")
    if not devices:
        return Check(what, "off; a start in shared mode turns it on, and its end off again")
    return Check(
        what,
        f"off, though {', '.join(devices)} {'is' if len(devices) == 1 else 'are'} up",
        next_step="Unless in host mode: sudo sysctl net.ipv4.ip_forward=1, and look for what turned it off",
        why="guests of a shared network reach nothing beyond this host",
        level=Level.WARNING,
    )


def _firewall(
    running: Sequence[vpn.Network], example: vpn.Network, way_out: str, links: Sequence[dict[str, Any]]
) -> Iterator[Check]:
    manager = firewall.manager(_read(_UFW), _process_names())
    said = "" if manager is None else f"; {manager} is on"
    if programs.find("nft") is None:
        yield Check("firewall", f"cannot be looked at without nft{said}", level=Level.UNSEEN)
        return
    try:
        # Without counters (-s), and without what is in sets (-t), which can be long.
        text = programs.run(["nft", "-s", "-t", "list", "ruleset"])
    except UplinkError:
        docker = any(one.get("ifname") == "docker0" for one in links)
        said += "; Docker's bridge is there, which comes with a drop policy for what is forwarded" * docker
        yield Check(
            "firewall", f"only root may look at it{said}", next_step="Run with sudo", level=Level.UNSEEN
        )
        return
    if _read(_BRIDGED).strip() == "1":
        ours = (
            str(one.get("master", ""))
            for one in links
            if str(one.get("ifname")).startswith(_EXAMPLE.device[:6])
        )
        for bridge in sorted({master for master in ours if master}):
            found = firewall.bridge_check(text, bridge)
            if found is not None:
                yield found
    for one in running or [example]:
        shared = one not in running or firewall.is_shared(text, one.device)
        segment = firewall.Segment(one.device, one.network, shared, way_out)
        yield from firewall.checks(text, segment)
        if "filter" in _read(_LEGACY).split():
            yield from firewall.legacy_checks(_legacy_rules(), segment)


def _legacy_rules() -> str:
    if programs.find("iptables-legacy-save") is None:
        return ""
    try:
        return programs.run([programs.find("iptables-legacy-save") or "", "-t", "filter"])
    except VdeVmnetError:
        return ""


def _process_names() -> set[str]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/comm"):
        found.add(_read(entry).strip())
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
