"""Debian's ``vde_switch``, with default buffers; its TAP gets the gateway's address by our hand."""

from __future__ import annotations

from bench.compare import REFERENCE
from bench.errors import BenchError
from bench.netns import Namespace
from bench.segment import GATEWAY, PREFIX_LENGTH
from bench.systems import cards
from bench.systems.base import Uplink, Wire, first_line, missing, socket_group
from bench.systems.running import Command, Running, pidfile, place, start

__all__ = ["VdeSwitch"]

#: More than any scenario plugs in; it has 32 without being told.
_PORTS = 512
#: The interface of ``vde_switch -tap``.
_TAP = "vdetap0"


class VdeSwitch:
    """A switch, and a TAP in it where the host is to be reached."""

    name = REFERENCE

    def unavailable_reason(self) -> str | None:
        return missing("vde_switch", "vde-switch")

    def version(self) -> str:
        return first_line(["vde_switch", "--version"])

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:
        return uplink in (Uplink.NONE, Uplink.HOST) and wire is Wire.VDE

    @staticmethod
    def command(uplink: Uplink) -> Command:
        """What starts it; also for those who need a switch beside them."""
        options = ["--numports", str(_PORTS), "--mode", "0660", "--group", socket_group()]
        if uplink is Uplink.HOST:
            options += ["--tap", _TAP]
        return lambda folder: ["vde_switch", *options, *pidfile(folder), "--sock", str(place(folder))]

    def start(self, uplink: Uplink, wire: Wire = Wire.VDE, guests: int = 1) -> Running:  # noqa: ARG002
        running = start(self.command(uplink), None if uplink is Uplink.NONE else Namespace(), cards.vde)
        try:
            if running.namespace is not None:
                running.namespace.run("ip", "address", "add", f"{GATEWAY}/{PREFIX_LENGTH}", "dev", _TAP)
                running.namespace.run("ip", "link", "set", _TAP, "up")
        except BenchError:
            running.__exit__(None, None, None)
            raise
        return running
