"""QEMU's own ``-netdev user``: libslirp in QEMU itself, for one guest, which needs no privilege either."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.compare import QEMU_USER
from bench.netns import Namespace
from bench.segment import GATEWAY, IPERF3_PORT, PREFIX_LENGTH, guest_address
from bench.systems import cards
from bench.systems.base import Uplink, Wire, first_line, missing
from bench.systems.running import Running

__all__ = ["QemuUser"]


class QemuUser:
    """The namespace's port of iperf3 leads to the guest. Its segment has an MTU of 1500, and no other."""

    name = QEMU_USER

    def unavailable_reason(self) -> str | None:
        return missing("qemu-system-x86_64", "qemu-system-x86")

    def version(self) -> str:
        return first_line(["qemu-system-x86_64", "--version"])

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:  # noqa: ARG002
        return uplink in (Uplink.USER, Uplink.USER_LONG)

    def start(self, uplink: Uplink, wire: Wire = Wire.VDE, guests: int = 1) -> Running:  # noqa: ARG002
        with ExitStack() as undo:
            namespace = Namespace()
            undo.callback(namespace.close)
            segment = f"ipv6=off,net={GATEWAY}/{PREFIX_LENGTH},host={GATEWAY},dns=192.168.105.3"
            forward = f"hostfwd=tcp:127.0.0.1:{IPERF3_PORT}-{guest_address()}:{IPERF3_PORT}"
            card = cards.user(f"{segment},{forward}")
            return Running(
                Path("/nonexistent"),
                0.0,
                namespace,
                card,
                undo.pop_all(),
                guest_address="127.0.0.1",
                guest_inside=True,
            )
