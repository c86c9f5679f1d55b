"""What a daemon is asked to do, as frozen values: one class per thing, one line of doc per field. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from pathlib import Path
from typing import Literal
from uuid import UUID

from vde_vmnet.addresses import Forward, Ipv4Plan, NamedForward, Reservation, digest
from vde_vmnet.config.access import AccessRule

__all__ = [
    "Backend",
    "ConsoleConfig",
    "ControlConfig",
    "DaemonConfig",
    "ListenersConfig",
    "LogConfig",
    "Mode",
    "PtpSocket",
    "SwitchConfig",
    "SwitchRole",
    "UplinkConfig",
    "VmnetOffload",
    "network_id",
]


class Mode(enum.Enum):
    """``--vmnet-mode``; Apple's words for what a segment may reach."""

    HOST = "host"
    SHARED = "shared"
    BRIDGED = "bridged"


class Backend(enum.Enum):
    """``--backend``: which uplink leads from the switch to the host."""

    AUTO = "auto"
    LINUX = "linux"
    VMNET = "vmnet"
    USER = "user"
    NONE = "none"


class SwitchRole(enum.Enum):
    """``--vde-switch``: whether the daemon is the switch at VDESWITCH or a client of the one there."""

    AUTO = "auto"
    PLUG = "plug"
    SERVE = "serve"


class PtpSocket(enum.Enum):
    """``--vde-ptp``: what carries a point-to-point connection; the two do not understand each other."""

    #: Join a SEQPACKET server if one is there, else DGRAM.
    AUTO = "auto"
    #: Two datagram sockets: libvdeplug2, and vdeplug4 up to 4.0.1.
    DGRAM = "dgram"
    #: One connection of packets: vdeplug4 from 2025-04-26 on.
    SEQPACKET = "seqpacket"


class VmnetOffload(enum.Enum):
    """``--vmnet-offload``."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"
    VIRTIO = "virtio"


@dataclass(frozen=True)
class UplinkConfig:
    """What the segment is like towards the host."""

    mode: Mode = Mode.SHARED
    #: Name of the interface or bridge to join; bridged mode only.
    interface: str | None = None
    #: Addresses of the segment; None in bridged mode, and where a free subnet is to be chosen.
    ipv4: Ipv4Plan | None = None
    #: vmnet's interface id: the same one gives the uplink the same MAC address.
    interface_id: UUID | None = None
    #: vmnet's name of a host network without DHCP; host mode only.
    network_identifier: UUID | None = None
    #: A ULA /64 for the segment; None is no IPv6 from us.
    nat66_prefix: IPv6Network | None = None
    #: Whether addresses are handed out at all.
    dhcp: bool = True
    #: Addresses kept for a MAC.
    reservations: tuple[Reservation, ...] = ()
    #: Ports of the host that lead to guests; shared mode only.
    forwards: tuple[Forward, ...] = ()
    #: The same to guests whose address is whatever they are handed out.
    named_forwards: tuple[NamedForward, ...] = ()
    #: Largest packet of the segment in bytes; None is the platform's 1500.
    mtu: int | None = None
    #: Whether the segment is cut off from the other networks of its kind on this host.
    isolation: bool = False
    #: Whether vmnet moves super-frames.
    offload: VmnetOffload = VmnetOffload.AUTO
    #: How long vmnet may take to start, failed attempts included, in seconds.
    start_timeout: float = 30.0
    #: Where guests may connect to, as far as it was said.
    rules: tuple[AccessRule, ...] = ()


@dataclass(frozen=True)
class SwitchConfig:
    """The switch directory in which VDE clients find us."""

    #: Absolute path with symbolic links resolved.
    directory: Path
    #: Group that may plug in; None is the platform's default.
    group: str | None = None
    #: Mode of the directory (0o770: owner and group); the control socket has it without the x bits.
    mode: int = 0o770
    #: Be the switch, plug into one, or whichever fits what is there.
    role: SwitchRole = SwitchRole.AUTO
    #: Port to ask for when plugging in (``PATH[N]``), 0 for the management port; None lets the switch choose.
    port: int | None = None
    #: ``PATH[]``: no switch; ``directory`` is then the path of our datagram socket, for one peer.
    point_to_point: bool = False
    #: What its connection is made of.
    ptp_socket: PtpSocket = PtpSocket.AUTO
    #: No VDESWITCH was given; ``directory`` is then the first other socket, which names the network.
    absent: bool = False

    @property
    def key(self) -> Path:
        """What ``network_id`` names a network after: two plugs in one switch are two networks."""
        if self.point_to_point:
            return Path(f"{self.directory}[]")
        return self.directory if self.port is None else Path(f"{self.directory}[{self.port}]")


@dataclass(frozen=True)
class ListenersConfig:
    """Where else than in a switch directory guests plug in. Group and mode are those of ``SwitchConfig``."""

    #: Absolute paths of sockets with QEMU's stream framing.
    stream: tuple[Path, ...] = ()
    #: Absolute paths of sockets to which guests send datagrams.
    dgram: tuple[Path, ...] = ()
    #: Absolute paths of sockets for front ends of vhost-user.
    vhost_user: tuple[Path, ...] = ()
    #: Those of the streams and datagram sockets that are for guests of krunkit with offloading=on.
    offload: frozenset[Path] = frozenset()
    #: Number of a descriptor that the parent left open: a connected socket, the daemon's life line.
    fd: int | None = None

    @property
    def count(self) -> int:
        """How many places there are."""
        return len(self.stream) + len(self.dgram) + len(self.vhost_user) + (self.fd is not None)


@dataclass(frozen=True)
class ConsoleConfig:
    """The switch console, ``--mgmt``."""

    #: Absolute path of its socket.
    path: Path
    #: Mode of the socket: whoever may write to it may stop the daemon.
    mode: int = 0o600
    #: Group of the socket; None is the service user's.
    group: str | None = None


@dataclass(frozen=True)
class ControlConfig:
    """The control socket, ``--control``, and ``--metrics``."""

    #: False for ``--control=none``.
    enabled: bool = True
    #: Absolute path of its socket; None is beside VDESWITCH.
    path: Path | None = None
    #: Group of the socket; None is the one that may plug in.
    group: str | None = None
    #: Loopback address and port where Prometheus may read; port 0 is a free one.
    metrics: tuple[str, int] | None = None


@dataclass(frozen=True)
class LogConfig:
    """How the log is written."""

    #: The least that is written: ``debug``, ``info``, ``warning`` or ``error``.
    level: Literal["debug", "info", "warning", "error"] = "info"
    #: One JSON object a line.
    json: bool = False


@dataclass(frozen=True)
class DaemonConfig:
    """Everything one daemon needs; made by config/, read by daemon.py."""

    #: The first VDESWITCH, which names the network.
    switch: SwitchConfig
    #: The others, on the same segment.
    more_switches: tuple[SwitchConfig, ...] = ()
    listeners: ListenersConfig = field(default_factory=ListenersConfig)
    console: ConsoleConfig | None = None
    control: ControlConfig = field(default_factory=ControlConfig)
    log: LogConfig = field(default_factory=LogConfig)
    uplink: UplinkConfig = field(default_factory=UplinkConfig)
    backend: Backend = Backend.AUTO
    #: User to serve as after privileges are dropped; None picks the invoking user under sudo, else nobody.
    user: str | None = None
    #: Written when the network is ready, locked while it runs.
    pidfile: Path | None = None
    #: How long the engine asks for more frames after traffic before it sleeps, in microseconds.
    busy_poll: int = 0
    #: Say what the uplink reports as one line of JSON on standard output.
    json: bool = False

    @property
    def switches(self) -> tuple[SwitchConfig, ...]:
        """Every VDESWITCH that was given."""
        return () if self.switch.absent else (self.switch, *self.more_switches)

    @property
    def is_alone(self) -> bool:
        """Whether one VDESWITCH is all there is, so that only an uplink could be at the other end of it."""
        return len(self.switches) + self.listeners.count == 1


def network_id(directory: Path) -> str:
    """Eight hex digits that name a network's objects on the host.

    They depend on the path alone, so that the next start finds what a killed one left.
    """
    return digest(str(directory).encode(), 4).hex()
