"""What travels over the control socket, as frozen values: protocol version 1, everything below ``/v1``. Pure.

Requests with a field that is not here are refused. Replies may get more fields within a version, so that a
client of today reads a daemon of tomorrow; what is here keeps its name and meaning. Times are seconds since
1970, addresses are text, MAC addresses are ``52:54:00:12:34:56``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

__all__ = [
    "API",
    "PREFIX",
    "Capture",
    "CaptureRequest",
    "Captures",
    "Counters",
    "CountersReply",
    "Done",
    "Endpoint",
    "ErrorCode",
    "ErrorReply",
    "Event",
    "EventKind",
    "Fdb",
    "FdbEntry",
    "Forward",
    "Forwards",
    "Lease",
    "Leases",
    "Level",
    "Listener",
    "LogLevel",
    "LogLine",
    "LogLines",
    "NetworkInfo",
    "Peer",
    "Port",
    "PortCounters",
    "PortKind",
    "Ports",
    "Reloaded",
    "Reply",
    "Request",
    "Reservation",
    "Reservations",
    "Uplink",
]

#: Version of the protocol, and the start of every path but ``/metrics``.
API = 1
PREFIX = f"/v{API}"

Level = Literal["debug", "info", "warning", "error"]
PortKind = Literal["uplink", "vde", "stream", "dgram", "fd", "switch", "ptp", "vhost-user", "other"]
EventKind = Literal[
    "port_up",
    "port_down",
    "first_mac",
    "lease",
    "lease_refused",
    "release",
    "trouble",
    "port_set",
    "changed",
    "stopping",
    "dropped",
]
ErrorCode = Literal[
    "invalid_request",
    "not_found",
    "method_not_allowed",
    "too_large",
    "forbidden",
    "conflict",
    "unavailable",
    "busy",
    "internal",
]

Mac = Annotated[str, Meta(pattern="^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$", examples=["52:54:00:12:34:56"])]
PortNumber = Annotated[int, Meta(ge=0, le=65535)]
#: Of classic BPF: code, jt, jf, k.
Instruction = tuple[
    Annotated[int, Meta(ge=0, le=65535)],
    Annotated[int, Meta(ge=0, le=255)],
    Annotated[int, Meta(ge=0, le=255)],
    Annotated[int, Meta(ge=0, le=4294967295)],
]
TcpPort = Annotated[int, Meta(ge=1, le=65535)]


def _d(text: str) -> Meta:
    """One line of doc for a field; it is in the OpenAPI document and in docs/reference/control-protocol.md."""
    return Meta(description=text)


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends: unknown fields are refused."""


class Reply(Struct, frozen=True, kw_only=True):
    """What the daemon answers."""


class ErrorReply(Reply, frozen=True, kw_only=True):
    """Why a request was refused, and what to do about it."""

    code: Annotated[ErrorCode, _d("For programs: the kind of the problem.")]
    message: Annotated[str, _d("For people: what was wrong, with the value at fault.")]
    next_step: Annotated[str, _d("What to do about it.")]


class Done(Reply, frozen=True, kw_only=True):
    """A change was made."""

    done: Annotated[str, _d("What was done, as one line.")]


class Listener(Reply, frozen=True, kw_only=True):
    """One place where guests plug in."""

    how: Annotated[str, _d("QEMU's arguments to plug in here, or how else it is done.")]


class Uplink(Reply, frozen=True, kw_only=True):
    """The way from the segment to the host."""

    kind: Annotated[str, _d("`linux`, `vmnet`, `user` or `none`.")]
    mode: Annotated[str | None, _d("`shared`, `host` or `bridged`.")] = None
    gateway: Annotated[str | None, _d("The host's address on the segment.")] = None
    netmask: Annotated[str | None, _d("The mask that goes with it.")] = None
    dhcp_end: Annotated[str | None, _d("The last address that is handed out.")] = None
    mtu: Annotated[int | None, _d("Longest packet, in bytes.")] = None
    device: Annotated[str | None, _d("Interface of the host that belongs to the segment.")] = None
    facts: Annotated[dict[str, str], _d("What the log says about it at the start.")] = field(
        default_factory=dict
    )


class NetworkInfo(Reply, frozen=True, kw_only=True):
    """One running network."""

    api: Annotated[int, _d("Version of this protocol.")]
    version: Annotated[str, _d("Version of the daemon.")]
    name: Annotated[str, _d("VDESWITCH, or the first other socket.")]
    id: Annotated[str, _d("Eight hex digits that are in the names of its objects on the host.")]
    pid: Annotated[int, _d("The process to signal.")]
    user: Annotated[str, _d("As whom it serves.")]
    started: Annotated[float, _d("When it was ready.")]
    uptime_seconds: Annotated[float, _d("How long ago that was.")]
    uplink: Annotated[Uplink, _d("The way to the host.")]
    listeners: Annotated[list[Listener], _d("Where guests plug in.")]
    control: Annotated[str, _d("Path of this socket.")]
    metrics: Annotated[str | None, _d("HOST:PORT of `--metrics`.")] = None
    log_level: Annotated[Level, _d("What is logged at least.")] = "info"
    may_change: Annotated[bool, _d("Whether the asking process may change things here.")] = False


class Counters(Reply, frozen=True, kw_only=True):
    """Frames and bytes since the start, from the switch's side: received is what a peer sent."""

    rx_frames: Annotated[int, _d("Frames received from the peer, dropped ones included.")] = 0
    rx_bytes: Annotated[int, _d("Bytes received from the peer.")] = 0
    tx_frames: Annotated[int, _d("Frames that the peer's socket took.")] = 0
    tx_bytes: Annotated[int, _d("Bytes that the peer's socket took.")] = 0
    queued_frames: Annotated[int, _d("Frames that wait for the peer now.")] = 0
    drops: Annotated[
        dict[str, int], _d("Dropped frames by reason; reasons that did not occur are left out.")
    ] = field(default_factory=dict)


class PortCounters(Reply, frozen=True, kw_only=True):
    """The counters of one port."""

    port: Annotated[PortNumber, _d("Its number.")]
    kind: Annotated[PortKind, _d("What is plugged in there.")]
    name: Annotated[str, _d("What it is called in the log.")]
    counters: Annotated[Counters, _d("Sums over its endpoints.")]


class CountersReply(Reply, frozen=True, kw_only=True):
    """All counters at one moment."""

    time: Annotated[float, _d("When they were read; two replies make a rate.")]
    total: Annotated[Counters, _d("Sums over the ports that are plugged in.")]
    ports: Annotated[list[PortCounters], _d("By port, those that are plugged in.")]


class Peer(Reply, frozen=True, kw_only=True):
    """The process at the other end, as the kernel tells."""

    pid: Annotated[int | None, _d("Its number; none where the system does not tell.")] = None
    uid: Annotated[int | None, _d("Its user.")] = None
    user: Annotated[str | None, _d("That user's name.")] = None
    command: Annotated[str | None, _d("The name of its program.")] = None


class Endpoint(Reply, frozen=True, kw_only=True):
    """One open descriptor on a port; VDE clients may share a port."""

    number: Annotated[int, _d("The engine's number of it, never used again.")]
    name: Annotated[str, _d("What it is called in the log.")]
    since: Annotated[float | None, _d("When it plugged in.")] = None
    peer: Annotated[Peer | None, _d("Who is at the other end, where that is known.")] = None
    counters: Annotated[Counters, _d("Its counters.")] = field(default_factory=Counters)


class Port(Reply, frozen=True, kw_only=True):
    """One place on the switch."""

    number: Annotated[PortNumber, _d("Its number; 65535 is the uplink.")]
    kind: Annotated[PortKind, _d("What is plugged in there.")]
    up: Annotated[bool, _d("False when it was taken down: it forwards nothing then.")]
    name: Annotated[str, _d("The guest's name by DHCP, else what it is called in the log.")]
    macs: Annotated[list[str], _d("Stations that were seen there, by the forwarding table.")]
    addresses: Annotated[list[str], _d("Their addresses, by their leases.")]
    endpoints: Annotated[list[Endpoint], _d("What is plugged in.")]
    counters: Annotated[Counters, _d("Sums over its endpoints.")]


class Ports(Reply, frozen=True, kw_only=True):
    """Every port with something on it."""

    ports: Annotated[list[Port], _d("By number.")]


class FdbEntry(Reply, frozen=True, kw_only=True):
    """One station that the switch has learned."""

    mac: Annotated[str, _d("Its address.")]
    port: Annotated[PortNumber, _d("Where it was seen last.")]
    age_seconds: Annotated[float, _d("How long ago.")]
    addresses: Annotated[list[str], _d("Its addresses, by its leases.")] = field(default_factory=list)
    name: Annotated[str | None, _d("Its name, by its lease.")] = None


class Fdb(Reply, frozen=True, kw_only=True):
    """The forwarding table."""

    entries: Annotated[list[FdbEntry], _d("By port, then MAC address.")]


class Lease(Reply, frozen=True, kw_only=True):
    """One address that was handed out."""

    address: Annotated[str, _d("IPv4 or IPv6 address.")]
    mac: Annotated[str | None, _d("The guest's MAC address, where the server knows it.")] = None
    name: Annotated[str | None, _d("What the guest calls itself, or the name that is reserved for it.")] = None
    expires: Annotated[int | None, _d("When it ends; none for one that never does.")] = None
    port: Annotated[int | None, _d("Where the guest is on the switch now.")] = None
    reserved: Annotated[bool, _d("Whether the address is kept for this MAC address.")] = False


class Leases(Reply, frozen=True, kw_only=True):
    """The addresses that guests have."""

    leases: Annotated[list[Lease], _d("By address.")]


class Reservation(Request, frozen=True, kw_only=True):
    """An address that is kept for a MAC address."""

    mac: Annotated[Mac, _d("The guest's MAC address.")]
    address: Annotated[str, _d("IPv4 address of the segment.")]
    name: Annotated[str | None, _d("Name that resolves to it.")] = None


class Reservations(Reply, frozen=True, kw_only=True):
    """All that are in force."""

    reservations: Annotated[list[Reservation], _d("Those of the command line, and those added since.")]


class Forward(Request, frozen=True, kw_only=True):
    """A port of the host that leads to a guest."""

    protocol: Annotated[Literal["tcp", "udp"], _d("What is forwarded.")] = "tcp"
    host: Annotated[str | None, _d("Address of the host that listens; none is the uplink's default.")] = None
    host_port: Annotated[TcpPort, _d("Port of the host.")]
    guest: Annotated[str, _d("The guest's address, or, where the uplink can, its name or MAC address.")]
    guest_port: Annotated[TcpPort, _d("Port of the guest.")]


class Forwards(Reply, frozen=True, kw_only=True):
    """All that are in force."""

    forwards: Annotated[list[Forward], _d("Those of the command line, and those added since.")]


class LogLevel(Request, frozen=True, kw_only=True):
    """How much is logged."""

    level: Annotated[Level, _d("The least that is logged.")]


class LogLine(Reply, frozen=True, kw_only=True):
    """One line of the daemon's log."""

    seq: Annotated[int, _d("Counts up from 1.")]
    time: Annotated[float, _d("When.")]
    level: Annotated[Level, _d("For whom.")]
    message: Annotated[str, _d("The line.")]
    fields: Annotated[dict[str, str | int | float], _d("What it is about, for programs.")] = field(
        default_factory=dict
    )


class LogLines(Reply, frozen=True, kw_only=True):
    """The last lines of the log."""

    lines: Annotated[list[LogLine], _d("Oldest first.")]


class Event(Reply, frozen=True, kw_only=True):
    """Something that happened to the network."""

    seq: Annotated[int, _d("Counts up from 1; a gap says that this client was too slow.")]
    time: Annotated[float, _d("When.")]
    kind: Annotated[EventKind, _d("What.")]
    message: Annotated[str, _d("The same for people, as one line.")]
    port: Annotated[int | None, _d("The port it is about.")] = None
    endpoint: Annotated[int | None, _d("The endpoint it is about.")] = None
    port_kind: Annotated[PortKind | None, _d("What is or was plugged in there.")] = None
    mac: Annotated[str | None, _d("The station it is about.")] = None
    address: Annotated[str | None, _d("The address that was given or released.")] = None
    name: Annotated[str | None, _d("What the guest calls itself, or who plugged in.")] = None
    reason: Annotated[str | None, _d("Why, for what ended.")] = None
    pid: Annotated[int | None, _d("The process at the other end, or the one that asked.")] = None
    uid: Annotated[int | None, _d("Its user.")] = None


class CaptureRequest(Request, frozen=True, kw_only=True):
    """What to capture; everything, each frame where it enters, without a field."""

    ports: Annotated[
        Annotated[list[PortNumber], Meta(max_length=1024)] | None,
        _d("Frames that enter or leave there; none is all."),
    ] = None
    program: Annotated[
        Annotated[list[Instruction], Meta(max_length=4096)] | None,
        _d("Only frames for which this filter holds: code, jt, jf, k of each instruction."),
    ] = None
    snap_length: Annotated[
        Annotated[int, Meta(ge=14, le=262144)] | None, _d("Keep no more bytes of a frame.")
    ] = None
    frames: Annotated[Annotated[int, Meta(ge=1, le=2**53)] | None, _d("End after so many frames.")] = None
    seconds: Annotated[Annotated[float, Meta(gt=0, le=31536000)] | None, _d("End after this time.")] = None


class Capture(Reply, frozen=True, kw_only=True):
    """A capture that goes on."""

    number: Annotated[int, _d("Its number, never used again.")]
    frames: Annotated[int, _d("Frames that were recorded.")]
    dropped: Annotated[int, _d("Frames for which there was no room, since its reader is slow.")]


class Captures(Reply, frozen=True, kw_only=True):
    """All captures that go on."""

    captures: Annotated[list[Capture], _d("By number.")]


class Reloaded(Reply, frozen=True, kw_only=True):
    """What was read again."""

    changed: Annotated[list[str], _d("What is different now, a line each; empty when nothing is.")]
