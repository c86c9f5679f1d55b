"""QEMU's options for a guest's network card, one function for each kind of ``-netdev``. Pure.

Cards differ in nothing else but an interrupt, so that a guest's driver does the same for all systems.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.segment import guest_mac
from vde_vmnet.demo.guest import vde_network

__all__ = ["GUEST_MEMORY_MIB", "Card", "netdev", "stream", "tap", "user", "vde", "vhost_user"]

#: Of every guest; shared memory must be exactly as large.
GUEST_MEMORY_MIB = 192

#: QEMU's options for the guest of that number.
Card = Callable[[int], tuple[str, ...]]


def netdev(backend: str, number: int, card: str = "") -> tuple[str, ...]:
    """``backend`` is QEMU's ``-netdev`` without its id; ``card`` more options of the card."""
    kind, _, options = backend.partition(",")
    backend = f"{kind},id=net0,{options}".rstrip(",")
    device = f"virtio-net-pci,netdev=net0,mac={guest_mac(number)},romfile={card}"
    return "-netdev", backend, "-device", device


def vde(switch: Path) -> Card:
    return lambda number: vde_network(switch, guest_mac(number))


def stream(socket: Path) -> Card:
    return lambda number: netdev(f"stream,server=off,addr.type=unix,addr.path={socket}", number)


#: A card's interrupt is a shared line then.
_WITHOUT_MSIX = ",vectors=0"


def tap(interface: str, *, msix: bool) -> Card:
    """An interface that is there already, with QEMU's offloads and without the kernel's own data path."""
    card = "" if msix else _WITHOUT_MSIX
    return lambda number: netdev(f"tap,ifname={interface},script=no,downscript=no,vhost=off", number, card)


def user(options: str) -> Card:
    return lambda number: netdev(f"user,{options}", number)


def vhost_user(sockets: Callable[[int], Path]) -> Card:
    """Without MSI-X, with which QEMU 7.2 crashes unless it runs under KVM.

    The rivals' cards have it: what a shared interrupt costs is ours to bear.
    """

    def card(number: int) -> tuple[str, ...]:
        memory = f"memory-backend-memfd,id=shared,size={GUEST_MEMORY_MIB}M,share=on"
        return (
            *("-object", memory, "-machine", "memory-backend=shared"),
            *("-chardev", f"socket,id=wire,path={sockets(number)}"),
            *netdev("vhost-user,chardev=wire", number, card=_WITHOUT_MSIX),
        )

    return card
