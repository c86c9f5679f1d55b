"""The systems under test, one file each: how ours and its rivals are started.

A new one: a file with a class that fills ``base.System``, its name in ``compare.py``, its kind of network card
in ``cards.py``, one line here and one in ``run.py``. A rival that is a part of QEMU, as ``qemu_tap.py``, has no
process of its own.
"""

from __future__ import annotations

from bench.systems import cards
from bench.systems.base import System, Uplink, Wire, socket_group
from bench.systems.dpdk import DpdkRelay
from bench.systems.passt import Passt
from bench.systems.qemu_tap import QemuTap
from bench.systems.qemu_user import QemuUser
from bench.systems.running import Command, Running, pidfile, place, start, stop, vhost_user_socket
from bench.systems.vde_switch import VdeSwitch
from bench.systems.vde_vmnet import VdeVmnet

__all__ = [
    "Command",
    "DpdkRelay",
    "Passt",
    "QemuTap",
    "QemuUser",
    "Running",
    "System",
    "Uplink",
    "VdeSwitch",
    "VdeVmnet",
    "Wire",
    "cards",
    "pidfile",
    "place",
    "socket_group",
    "start",
    "stop",
    "vhost_user_socket",
]
