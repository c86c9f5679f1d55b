"""Real guests on a daemon's switch, for tests: an unprivileged QEMU each, driven over its command channel."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from tests.support.daemon import Daemon
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig, vde_network
from vde_vmnet.demo.guest_image import GuestImage, build_image

__all__ = [
    "boot",
    "fetch_in_guest",
    "image",
    "mac",
    "network_options",
    "start",
    "vhost_user_network",
    "wait_for_address6",
]


@functools.cache
def image() -> GuestImage:
    """The guests' image; made once."""
    return build_image()


def mac(number: int) -> str:
    """The address of the guest with this number, 0 to 255."""
    return f"52:54:00:76:64:{number:02x}"


def network_options(daemon: Daemon, number: int) -> tuple[str, ...]:
    """QEMU's options that plug guest ``number`` in."""
    return vde_network(daemon.directory, mac(number))


def vhost_user_network(path: Path, mac: str, *, memory_mib: int = 192, queues: int = 1) -> tuple[str, ...]:
    """QEMU's options that plug a guest with so much memory into a vhost-user socket.

    Without MSI-X, with which QEMU 7.2 crashes unless it runs under KVM.
    """
    return (
        *("-object", f"memory-backend-memfd,id=mem0,size={memory_mib}M,share=on"),
        *("-machine", "memory-backend=mem0"),
        *("-chardev", f"socket,id=chr0,path={path},reconnect=1"),
        *("-netdev", f"vhost-user,id=net0,chardev=chr0,queues={queues}"),
        *("-device", f"virtio-net-pci,id=net0-card,netdev=net0,mac={mac},romfile=,vectors=0"),
    )


def start(
    daemon: Daemon,
    number: int,
    *,
    name: str | None = None,
    options: Sequence[str] = (),
    evidence: Path | None = None,
) -> Guest:
    """Start guest ``number``, not yet booted, so that several can boot at once. Use as a context manager."""
    return Guest(
        GuestConfig(
            image=image(),
            evidence=evidence or daemon.evidence,
            network=network_options(daemon, number),
            name=name or f"guest{number}",
            account=unprivileged_account(),
            options=tuple(options),
        )
    )


def boot(daemon: Daemon, number: int, *, name: str | None = None) -> Guest:
    """Start a guest and wait until it takes commands."""
    guest = start(daemon, number, name=name)
    try:
        guest.wait_ready()
    except BaseException:
        guest.close()
        raise
    return guest


def fetch_in_guest(guest: Guest, url: str, *, seconds: int = 10) -> str | None:
    """The page's text, or None when it could not be had in time."""
    fetched = guest.run(f"timeout {seconds} wget -q -O - {url}", seconds=seconds + 10)
    return fetched.output if fetched.status == 0 else None


def wait_for_address6(guest: Guest, prefix: str) -> str:
    """The guest's address that begins with ``prefix``, once it is checked for duplicates and usable."""
    said = guest.run(
        "for try in $(seq 100); do"
        f" address=$(ip -6 address show dev eth0 scope global | grep -v tentative | grep -o '{prefix}[^/ ]*');"
        ' [ -n "$address" ] && echo "$address" && exit 0; usleep 100000; done; ip -6 address; exit 1'
    )
    assert said.status == 0, said.output
    return said.output.split()[0]
