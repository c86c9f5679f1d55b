"""What ``vde_vmnet doctor`` looks at on Linux. Reads and asks, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.errors import ConflictError, PrivilegeError, UnavailableError, VdeVmnetError
from vde_vmnet.uplinks.check import Check
from vde_vmnet.uplinks.linux import LinuxUplink, children, link, programs, subnets

__all__ = ["checks"]


def checks(wanted: IPv4Network | None) -> Iterator[Check]:
    """Everything, in the order in which a start would meet it. ``wanted``: the subnet asked for."""
    if link.TUN_DEVICE.exists():
        yield Check("TAP", f"{link.TUN_DEVICE} is there")
    else:
        yield Check("TAP", f"{link.TUN_DEVICE} does not exist", UnavailableError, "modprobe tun may help")
    if children.effective_capabilities() >> children.CAP_NET_ADMIN & 1:
        yield Check("privilege", "may configure the network")
    else:
        yield Check("privilege", "may not configure the network", PrivilegeError, "Run with sudo")
    for name in ("ip", "nft", "dnsmasq"):
        path = programs.find(name)
        if path is None:
            yield Check(name, "not installed", UnavailableError, programs.install_hint([name]))
        else:
            yield Check(name, path)
    for mode in Mode:
        reason = LinuxUplink(UplinkConfig(mode=mode), "doctor").unavailable_reason()
        yield Check(f"{mode.value} mode", "can be used" if reason is None else f"cannot be used: {reason}")
    if wanted is not None:
        yield _subnet(wanted)


def _subnet(wanted: IPv4Network) -> Check:
    try:
        taken = subnets.occupied_by(link.routes(4), link.addresses())
        subnets.check_free(wanted, taken, option="--vmnet-gateway")
    except ConflictError as error:
        return Check(f"subnet {wanted}", error.message, ConflictError, error.next_step)
    except VdeVmnetError as error:
        return Check(f"subnet {wanted}", f"cannot be looked at: {error.message}")
    return Check(f"subnet {wanted}", "free")
