"""DHCP, DNS and router advertisements: dnsmasq's configuration as text, and one dnsmasq per network.

It serves on the network's TAP only, reads none of the system's configuration, and runs as an unprivileged
user from its first instruction on: it parses what guests send. It dies with the keeper.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

from vde_vmnet.addresses import Ipv4Plan, Reservation
from vde_vmnet.errors import ConfigurationError, ConflictError, UnavailableError, UplinkError
from vde_vmnet.recovery import StopProcess, UndoRecord, Unlink
from vde_vmnet.uplinks.linux import children, programs

__all__ = [
    "ARGUMENTS",
    "CAPABILITIES",
    "DOMAIN",
    "HOST_NAME",
    "Later",
    "LeaseEvent",
    "Service",
    "await_start",
    "check_reservations",
    "gateway6",
    "lease_event",
    "render",
    "start",
]

#: ``.internal`` is reserved for private use (ICANN resolution 2024.07.29.06).
DOMAIN = "vmnet.internal"
#: The host's name for guests.
HOST_NAME = f"host.{DOMAIN}"

# Chosen: guests that come and go soon give their address back; renewal costs two packets every half hour.
_LEASE = "1h"
# Chosen: more than a /20 of guests; bounds what a guest that invents MAC addresses can make dnsmasq keep.
_MOST_LEASES = 4096
# Chosen: that many lines wait while the log's pipe is full, later ones are lost. From nine on dnsmasq slows
# itself down, up to half a second a line, to let the log catch up.
_LOG_QUEUE = 8
# Chosen: it is ready within 20 ms; ten seconds is a machine in trouble.
_SECONDS = 10.0
ARGUMENTS = (
    "--keep-in-foreground",
    "--conf-file=-",
    "--pid-file=",
    "--log-facility=-",
    f"--log-async={_LOG_QUEUE}",
)
CAPABILITIES = (children.CAP_NET_BIND_SERVICE, children.CAP_NET_ADMIN, children.CAP_NET_RAW)


@dataclass(frozen=True)
class Service:
    """What one dnsmasq serves."""

    device: str
    ipv4: Ipv4Plan
    #: The host's own address and the prefix it advertises; None without IPv6.
    ipv6: IPv6Network | None
    dhcp: bool
    #: Whether guests are routed beyond the host, and their questions answered by the host's own servers.
    outside: bool
    reservations: Sequence[Reservation]
    #: None leaves it to the guests, which take 1500.
    mtu: int | None = None
    #: Its own address, where it is not the gateway's.
    address: IPv4Address | None = None
    #: The only server to ask for other names; None is those of the host.
    upstream: IPv4Address | None = None


def gateway6(prefix: IPv6Network) -> IPv6Address:
    """The host's address in an advertised prefix."""
    return prefix[1]


def check_reservations(plan: Ipv4Plan, reservations: Sequence[Reservation]) -> None:
    """Raises ConfigurationError that names ``--reserve`` and what is wrong with it. Pure.

    An address may lie outside the range that is handed out, but must be a guest's address of the subnet.
    """
    seen: dict[str, Reservation] = {}
    for one in reservations:
        said = f"--reserve {one.mac}={one.address}"
        if one.address not in plan.network:
            raise ConfigurationError(f"{said} is outside the subnet {plan.network}")
        if one.address == plan.gateway:
            raise ConfigurationError(f"{said} is the gateway's own address")
        if one.address in (plan.network.network_address, plan.network.broadcast_address):
            raise ConfigurationError(f"{said} is not the address of a machine in {plan.network}")
        if one.name == HOST_NAME.partition(".")[0]:
            raise ConfigurationError(f'{said},{one.name}: the name "{one.name}" is the host\'s own')
        for kind, value in (("MAC address", str(one.mac)), ("address", str(one.address)), ("name", one.name)):
            if value is not None and value in seen:
                raise ConfigurationError(f"{said} repeats the {kind} {value} of --reserve {seen[value].mac}")
        for value in filter(None, (str(one.mac), str(one.address), one.name)):
            seen[value] = one


def render(service: Service, lease_file: Path | None, hosts_file: Path | None = None) -> str:
    """The configuration file; without ``lease_file`` leases are kept in memory only.

    ``hosts_file``: what is read again on SIGHUP, addresses that are kept for guests.
    """
    plan, v6 = service.ipv4, service.ipv6
    host = [str(plan.gateway), *([str(gateway6(v6))] if v6 is not None else [])]
    lines = [
        f"interface={service.device}",
        "except-interface=lo",
        "bind-interfaces",
        "no-hosts",
        f"domain={DOMAIN}",
        f"local=/{DOMAIN}/",
        "domain-needed",
        "bogus-priv",
        f"host-record={','.join([HOST_NAME, *host])}",
    ]
    if not service.outside or service.upstream is not None:
        lines.append("no-resolv")
    if service.outside and service.upstream is not None:
        lines.append(f"server={service.upstream}")
    lines += [
        f"host-record={reservation.name},{reservation.name}.{DOMAIN},{reservation.address}"
        for reservation in service.reservations
        if reservation.name is not None
    ]
    if service.dhcp:
        lines += _dhcp(service, lease_file, hosts_file)
    if v6 is not None:
        advertised = f",mtu:{service.mtu}" if service.mtu is not None else ""
        # ra-stateless: addresses by SLAAC, the DNS server by RDNSS and DHCPv6; ra-only: no DHCPv6. A router
        # lifetime of 0 says "not a default router" (RFC 4861 section 4.2).
        lines += [
            f"dhcp-range={v6.network_address},{'ra-stateless' if service.dhcp else 'ra-only'},64,{_LEASE}",
            "enable-ra",
            "quiet-ra",
            f"ra-param={service.device}{advertised},{'60,1800' if service.outside else '60,0'}",
            f"dhcp-option=option6:dns-server,[{gateway6(v6)}]",
        ]
        if not service.dhcp:
            lines.append(_lease_line(lease_file))
    return "\n".join([*lines, ""])


def _lease_line(lease_file: Path | None) -> str:
    return "leasefile-ro" if lease_file is None else f"dhcp-leasefile={lease_file}"


def _dhcp(service: Service, lease_file: Path | None, hosts_file: Path | None) -> list[str]:
    plan = service.ipv4
    size = int(plan.dhcp_end) - int(plan.dhcp_start) + 1 + len(service.reservations)
    lines = [
        f"dhcp-range={plan.dhcp_start},{plan.dhcp_end},{plan.network.netmask},{_LEASE}",
        _lease_line(lease_file),
        *([f"dhcp-hostsfile={hosts_file}"] if hosts_file is not None else []),
        f"dhcp-lease-max={min(size, _MOST_LEASES)}",
        # We are the only server of the segment: answer at once, also to guests that come from elsewhere.
        "dhcp-authoritative",
        "dhcp-rapid-commit",
        # The check for a squatter costs every new guest three seconds; the range is ours by contract.
        "no-ping",
        # A guest must not become everybody's proxy auto-configuration (CERT VU#598349).
        "dhcp-name-match=set:wpad,wpad",
        "dhcp-ignore-names=tag:wpad",
        f"dhcp-option=option:dns-server,{service.address or plan.gateway}",
        f"dhcp-option=option:domain-search,{DOMAIN}",
        f"dhcp-option=option:router,{plan.gateway}" if service.outside else "dhcp-option=option:router",
    ]
    if service.mtu is not None:
        # Also to guests that do not ask for it: one that sends longer packets is cut off.
        lines.append(f"dhcp-option-force=option:mtu,{service.mtu}")
    lines += [f"dhcp-host={_host(one)}" for one in service.reservations]
    return lines


def _host(one: Reservation) -> str:
    return ",".join(filter(None, (str(one.mac), str(one.address), one.name)))


def start(service: Service, undo: UndoRecord, lease_file: Path, hosts_file: Path) -> tuple[int, Later]:
    """Start dnsmasq and return once it serves; what it logs can be read from the returned descriptor.

    Raises ConflictError when somebody holds its ports, UplinkError with its own words when it refuses to
    start, UnavailableError when it is missing.
    """
    program = programs.require("dnsmasq")
    account = children.Account.first_of("dnsmasq", "nobody")
    undo.push(Unlink(str(lease_file)))
    lease_file.unlink(missing_ok=True)
    os.close(os.open(lease_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.chown(lease_file, account.uid, account.gid)
    with contextlib.ExitStack() as local, contextlib.ExitStack() as on_failure:
        config_fd = os.memfd_create("vde_vmnet.dnsmasq")
        local.callback(os.close, config_fd)
        os.write(config_fd, render(service, lease_file, hosts_file).encode())
        os.lseek(config_fd, 0, os.SEEK_SET)
        later = Later.make(hosts_file, undo, account)
        on_failure.callback(later.close)
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        local.callback(os.close, null)
        log_read, log_write = os.pipe2(os.O_CLOEXEC)
        on_failure.callback(os.close, log_read)
        # Together with --log-async: whoever reads the log late, or not at all, does not stop dnsmasq.
        os.set_blocking(log_write, False)
        with contextlib.ExitStack() as writer:
            writer.callback(os.close, log_write)
            pid = children.start(
                [program, *ARGUMENTS],
                stdin=config_fd,
                stdout=null,
                stderr=log_write,
                account=account,
                capabilities=CAPABILITIES,
            )
        undo.push(StopProcess.of(pid))
        os.set_blocking(log_read, False)
        await_start(log_read, service)
        on_failure.pop_all()
    return log_read, later.of(service, pid)


class Later:
    """Addresses that are kept for guests while dnsmasq runs."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._kept: dict[str, Reservation] = {}
        self._service: Service | None = None
        self._pid = -1

    @classmethod
    def make(cls, path: Path, undo: UndoRecord, account: children.Account | None) -> Later:
        """The file that it reads them from, for ``account``; None is this user."""
        undo.push(Unlink(str(path)))
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if account is not None:
            os.fchown(fd, account.uid, account.gid)
        return cls(fd)

    def of(self, service: Service, pid: int) -> Later:
        """The same, for the dnsmasq that was started."""
        self._service, self._pid = service, pid
        return self

    def close(self) -> None:
        """Write to it no more."""
        os.close(self.fd)

    def change(self, one: Reservation, *, on: bool) -> None:
        """Have it kept, or no longer. Raises ConfigurationError, UnavailableError."""
        service = self._service
        assert service is not None  # noqa: S101 - of() has been called by whoever started dnsmasq
        if not service.dhcp:
            raise UnavailableError(
                f"Nothing can be kept for {one.mac}: no addresses are handed out here",
                next_step="Start the daemon without --vmnet-disable-dhcp",
            )
        kept = {mac: other for mac, other in self._kept.items() if mac != str(one.mac)}
        if on:
            check_reservations(service.ipv4, [*service.reservations, *kept.values(), one])
            kept[str(one.mac)] = one
        lines = "".join(f"{_host(other)}\n" for other in kept.values()).encode()
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, lines, 0)
        self._signal()
        self._kept = kept

    def read_again(self) -> str:
        """The host's name servers, in the place of answers that it remembers. Raises UnavailableError."""
        self._signal()
        return "dnsmasq has read the host's name servers again, and forgotten the answers that it kept"

    def _signal(self) -> None:
        try:
            os.kill(self._pid, signal.SIGHUP)
        except OSError as error:
            raise UnavailableError(f"dnsmasq cannot be told to look again: {error.strerror}") from error


def await_start(log_fd: int, service: Service) -> None:
    """Read the log up to the line that says it serves. Raises ConflictError, UplinkError."""
    waiter = select.poll()
    waiter.register(log_fd, select.POLLIN)
    deadline = time.monotonic() + _SECONDS
    said = ""
    while (left := deadline - time.monotonic()) > 0:
        if not waiter.poll(left * 1000):
            break
        chunk = os.read(log_fd, 65536).decode(errors="replace")
        said += chunk
        if ": started, version " in said:
            return
        if not chunk:
            raise _refusal(said, service.ipv4.gateway)
    raise UplinkError(f"dnsmasq did not start within {_SECONDS:.0f} s: {' '.join(said.split())}")


def _refusal(said: str, gateway: IPv4Address) -> ConflictError | UplinkError:
    """Why dnsmasq ended, from what it wrote."""
    words = " ".join(line.partition(": ")[2] or line for line in said.splitlines()).strip()
    if "Address already in use" in words:
        return ConflictError(
            f"Another program holds the DNS or DHCP port that dnsmasq needs on {gateway}: {words}",
            next_step="Find it with: ss -lunp 'sport = :53 or sport = :67'; a dnsmasq or named that listens on"
            " every address must be told to bind to its own interfaces (dnsmasq: bind-interfaces)",
        )
    return UplinkError(f"dnsmasq did not start: {words or 'it said nothing'}")


@dataclass(frozen=True)
class LeaseEvent:
    """Something that happened to a guest's address."""

    #: ``ack`` (given or renewed), ``release``, ``decline`` (the guest found it in use), ``nak`` (refused),
    #: ``none-left`` (every address of the range is taken).
    kind: str
    mac: str
    #: ``-`` where there is none.
    address: str
    #: The name the guest gave itself or has reserved; None without. Guest's words: log it, never trust it.
    name: str | None


# As dnsmasq's log_packet() writes it, with the address left out where there is none.
_LEASE_LINE = re.compile(
    r"dnsmasq-dhcp(?:\[\d+\])?: (?:\d+ )?DHCP(ACK|RELEASE|DECLINE|NAK)\([^)]*\)"
    r" (\d+\.\d+\.\d+\.\d+) ((?:[0-9a-f]{2}:){5}[0-9a-f]{2})(?: (.*))?"
)
_NONE_LEFT = re.compile(r"DHCPDISCOVER\([^)]*\) ((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) no address available")
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253})")


def lease_event(line: str) -> LeaseEvent | None:
    """What one line of dnsmasq's log says about a lease; None when it says nothing about one. Pure."""
    match = _LEASE_LINE.search(line)
    if match is None:
        refused = _NONE_LEFT.search(line)
        return None if refused is None else LeaseEvent("none-left", refused[1], "-", None)
    kind, address, mac, rest = match.groups()
    # An ACK ends with the name; a NAK and a DECLINE end with words of dnsmasq's own.
    name = rest.strip() if rest and kind == "ACK" else None
    if name is not None and not _HOST_NAME.fullmatch(name):
        name = None
    return LeaseEvent(kind.lower(), mac, address, name)
