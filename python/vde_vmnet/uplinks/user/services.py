"""dnsmasq on a user-mode network: DHCP with reservations, and names, without any privilege on this host.

libslirp hands out 16 addresses of its own choice and knows no names. So a dnsmasq is plugged into the segment
like a guest: it runs in a user and network namespace of its own, where it may make a TAP, whose other end is
the switch's. Nothing of the host is reachable from there but what guests reach too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.errors import UnavailableError, UplinkError, VdeVmnetError
from vde_vmnet.recovery import StopProcess, UndoRecord
from vde_vmnet.uplinks.linux import children, dnsmasq, link, programs, sysctl

__all__ = ["DEVICE", "Started", "start"]

#: Name of its TAP; it is alone in its namespace.
DEVICE = "segment"
# linux/sched.h
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
# linux/prctl.h
_PR_SET_DUMPABLE = 4
# Chosen: it takes 50 ms; ten seconds is a machine in trouble.
_SECONDS = 10.0
_MOST_WORDS = 4096

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Started:
    """A dnsmasq that serves."""

    #: The TAP, for the engine.
    tap_fd: int
    #: What it logs.
    log_fd: int
    #: For addresses that are kept later.
    later: dnsmasq.Later


def start(service: dnsmasq.Service, mac: str, undo: UndoRecord) -> Started:
    """Start it and return when it serves. ``service.address`` is its own, ``mac`` that of its TAP.

    Raises UnavailableError or UplinkError with the reason; nothing is left then.
    """
    if sys.platform != "linux":
        raise UnavailableError("Namespaces are needed, which this system does not have")
    program = programs.require("dnsmasq")
    programs.require("ip")
    with contextlib.ExitStack() as local, contextlib.ExitStack() as on_failure:
        ours, theirs = socket.socketpair()
        local.callback(ours.close)
        log_read, log_write = os.pipe2(os.O_CLOEXEC)
        on_failure.callback(os.close, log_read)
        os.set_blocking(log_write, False)
        config_fd = os.memfd_create("vde_vmnet.dnsmasq")
        local.callback(os.close, config_fd)
        hosts_file = Path(tempfile.gettempdir()) / f"vde_vmnet-hosts-{os.urandom(8).hex()}"
        later = dnsmasq.Later.make(hosts_file, undo, _account())
        on_failure.callback(later.close)
        os.write(config_fd, dnsmasq.render(service, None, hosts_file).encode())
        os.lseek(config_fd, 0, os.SEEK_SET)
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _be_dnsmasq(program, service, mac, theirs, (config_fd, log_write), parent)
        theirs.close()
        os.close(log_write)
        undo.push(StopProcess.of(pid))
        ours.settimeout(_SECONDS)
        tap_fd = _receive(ours)
        on_failure.callback(os.close, tap_fd)
        os.set_blocking(log_read, False)
        dnsmasq.await_start(log_read, service)
        on_failure.pop_all()
    return Started(tap_fd, log_read, later.of(service, pid))


def _receive(channel: socket.socket) -> int:
    """The TAP that the child made. Raises UplinkError with the child's words when it made none."""
    try:
        words, descriptors, _, _ = socket.recv_fds(channel, _MOST_WORDS, 1)
    except OSError as error:
        raise UplinkError(f"The namespace for dnsmasq was not ready in time: {error}") from error
    if not descriptors:
        raise UplinkError(words.decode(errors="replace") or "The process for dnsmasq ended without a word")
    os.set_blocking(descriptors[0], False)
    return descriptors[0]


def _be_dnsmasq(
    program: str,
    service: dnsmasq.Service,
    mac: str,
    channel: socket.socket,
    descriptors: tuple[int, int],
    parent: int,
) -> None:
    """The child's life; does not return."""
    config_fd, log_fd = descriptors
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _enter_namespaces()
        children.keeping(dnsmasq.CAPABILITIES)()
        tap_fd = _make_tap(service, mac)
        children.die_with(parent, signal.SIGTERM)
        os.dup2(config_fd, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
        os.dup2(log_fd, 2)
        socket.send_fds(channel, [b"ready"], [tap_fd])
        os.execve(program, [program, *dnsmasq.ARGUMENTS], programs.ENVIRONMENT)  # noqa: S606
    except (OSError, VdeVmnetError) as error:
        with contextlib.suppress(OSError):
            channel.send(str(error).encode()[:_MOST_WORDS])
    finally:
        os._exit(1)


def _account() -> children.Account | None:
    """As whom it runs when we are root; else as who we are."""
    return children.Account.first_of("dnsmasq", "nobody") if os.geteuid() == 0 else None


def _enter_namespaces() -> None:
    """A network of our own, and the capabilities to set it up; nobody's on the host. Raises OSError."""
    account = _account()
    if account is not None:
        os.setgroups([])
        os.setgid(account.gid)
        os.setuid(account.uid)
        # A change of user makes /proc/self root's, and with it the map below.
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"This system does not let users make namespaces ({os.strerror(number)})")
    me = Path("/proc/self")
    (me / "setgroups").write_text("deny")
    (me / "uid_map").write_text(f"{uid} {uid} 1")
    (me / "gid_map").write_text(f"{gid} {gid} 1")


def _make_tap(service: dnsmasq.Service, mac: str) -> int:
    fd = link.open_tap(DEVICE, UndoRecord.in_memory(""))
    sysctl.quiet_device(DEVICE, ipv6=False)
    mtu = f" mtu {service.mtu}" if service.mtu is not None else ""
    link.configure(
        [
            f"link set dev {DEVICE} address {mac}{mtu}",
            f"address add {service.address}/{service.ipv4.network.prefixlen} broadcast + dev {DEVICE}",
            f"link set dev {DEVICE} up",
        ]
    )
    return fd
