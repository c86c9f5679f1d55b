"""QEMU's own ``-netdev tap``: no program between the guest and the host's kernel, but root has to prepare it.

With offloads, which are QEMU's default there; without the kernel's vhost, so that QEMU itself moves the frames.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench.compare import QEMU_TAP
from bench.netns import Namespace
from bench.segment import GATEWAY, PREFIX_LENGTH
from bench.systems import cards
from bench.systems.base import Uplink, Wire, first_line, missing
from bench.systems.running import Running
from vde_vmnet.demo.accounts import unprivileged_account

__all__ = ["QemuTap"]

_TAP = "tap0"


class QemuTap:
    """A TAP of the user that QEMU runs as, in a namespace where QEMU is too."""

    name = QEMU_TAP

    def unavailable_reason(self) -> str | None:
        return missing("qemu-system-x86_64", "qemu-system-x86")

    def version(self) -> str:
        return first_line(["qemu-system-x86_64", "--version"])

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:
        return uplink is Uplink.HOST and wire in (Wire.TAP, Wire.TAP_WITHOUT_MSIX)

    def start(self, uplink: Uplink, wire: Wire = Wire.TAP, guests: int = 1) -> Running:  # noqa: ARG002
        with ExitStack() as undo:
            namespace = Namespace()
            undo.callback(namespace.close)
            user = unprivileged_account().name
            namespace.run("ip", "tuntap", "add", "dev", _TAP, "mode", "tap", "user", user, "vnet_hdr")
            namespace.run("ip", "address", "add", f"{GATEWAY}/{PREFIX_LENGTH}", "dev", _TAP)
            namespace.run("ip", "link", "set", _TAP, "up")
            card = cards.tap(_TAP, msix=wire is Wire.TAP)
            return Running(Path("/nonexistent"), 0.0, namespace, card, undo.pop_all(), guest_inside=True)
