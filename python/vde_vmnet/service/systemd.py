"""The units with which systemd starts the networks, and what systemctl is told about them. Pure.

The keeper is root for as long as the network stands, because it undoes what was done; the hardening below
takes away what it, nft, ip and dnsmasq can do without. What would break them, so that nobody adds it:
``ProtectKernelTunables`` (net.ipv4.ip_forward is set), ``ProtectKernelModules`` and ``PrivateDevices`` (tun),
``PrivateNetwork``, ``PrivateUsers``, ``RestrictSUIDSGID`` (the switch directory is set-group-ID),
``MemoryDenyWriteExecute`` (ctypes), ``ProtectProc`` (the keeper names a child that died). systemd.exec(5).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from vde_vmnet.service.networks import ServiceNetwork

__all__ = ["DIRECTORY", "RELOAD", "start_commands", "stop_commands", "unit_file", "unit_name", "unit_text"]

DIRECTORY = PurePosixPath("/etc/systemd/system")
_SYSTEMCTL = "systemctl"
#: What makes systemd read the folder again.
RELOAD = ((_SYSTEMCTL, "daemon-reload"),)

#: Each with its reason, in the order of the unit.
_CAPABILITIES = (
    "CAP_NET_ADMIN",  # TAP, addresses, nftables; given on to dnsmasq
    "CAP_NET_BIND_SERVICE",  # dnsmasq: ports 53 and 67
    "CAP_NET_RAW",  # dnsmasq: answers to clients without an address
    "CAP_SETUID",  # the worker and dnsmasq become ordinary users
    "CAP_SETGID",
    "CAP_SETPCAP",  # the worker empties its bounding set
    "CAP_CHOWN",  # sockets are given to the service user and the socket group
    "CAP_FOWNER",
    "CAP_FSETID",  # the switch directory is set-group-ID
    "CAP_DAC_OVERRIDE",  # clearing away what the service user made in its directory
    "CAP_KILL",  # ending the worker and dnsmasq, which are other users by then
)

#: On a NIC the uplink is a macvtap, whose device node udev may not have made yet when we want it.
_MACVTAP_CAPABILITIES = ("CAP_MKNOD",)
_DEVICES = ("DeviceAllow=/dev/net/tun rw",)
_MACVTAP_DEVICES = ("DeviceAllow=char-macvtap rwm",)
#: The kind of device has no number, and so cannot be allowed, before its module is loaded.
_MACVTAP_MODULE = "Wants=modprobe@macvtap.service\nAfter=modprobe@macvtap.service\n"

_SERVICE = """\
[Service]
Type=notify
ExecStart={command}
# 1 is a wrong command line: trying again would not help.
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=1
# The keeper ends its processes in order.
KillMode=mixed
TimeoutStopSec=20

CapabilityBoundingSet={capabilities}
NoNewPrivileges=yes
LimitNOFILE=65536
ProtectSystem=strict
ReadWritePaths=/run
ProtectHome=yes
PrivateTmp=yes
DevicePolicy=closed
{devices}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def unit_name(network: ServiceNetwork) -> str:
    """What systemctl calls the network: a bridged one is an instance of the template."""
    return "vde_vmnet.service" if network.interface is None else f"vde_vmnet@{network.interface}.service"


def unit_file(network: ServiceNetwork) -> PurePosixPath:
    """The unit's file; all bridged networks share the template."""
    return DIRECTORY / ("vde_vmnet.service" if network.interface is None else "vde_vmnet@.service")


def unit_text(network: ServiceNetwork, prefix: PurePosixPath) -> str:
    """The text of that file. ``%i`` is the instance, as it was written."""
    bridged = network.interface is not None
    what = "bridged to %i" if bridged else f"shared, gateway {network.gateway}"
    command = (str(prefix / "bin/vde_vmnet"), *network.arguments("%i" if bridged else None))
    service = _SERVICE.format(
        command=" ".join(command),
        capabilities=" ".join((*_CAPABILITIES, *(_MACVTAP_CAPABILITIES if bridged else ()))),
        devices="\n".join((*_DEVICES, *(_MACVTAP_DEVICES if bridged else ()))),
    )
    module = _MACVTAP_MODULE if bridged else ""
    return f"""\
[Unit]
Description=Network for rootless virtual machines ({what})
After=network.target
{module}ConditionPathExists={command[0]}

{service}"""


def start_commands(units: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """What reads the units, starts them now (again, if they run) and at each boot."""
    if not units:
        return ()
    return (
        *RELOAD,
        (_SYSTEMCTL, "enable", "--quiet", *units),
        (_SYSTEMCTL, "restart", *units),
    )


def stop_commands(units: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """What stops them, for good; before their files go."""
    if not units:
        return ()
    return (
        (_SYSTEMCTL, "disable", "--now", "--quiet", *units),
        # A unit that failed is remembered beyond its file.
        (_SYSTEMCTL, "reset-failed", *units),
    )
