"""Joining an Open vSwitch bridge: what is asked of ovs-vsctl, in which order, and what is recorded before."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from vde_vmnet.errors import UplinkError
from vde_vmnet.recovery import Command, UndoRecord
from vde_vmnet.uplinks.linux import bridged, link, programs, sysctl


class Recorder(UndoRecord):
    """An undo record that writes what it is given into the same log as the programs that run."""

    def __init__(self, log: list[str]) -> None:
        super().__init__("1a2b3c4d", None, -1)
        self.log = log

    def push(self, step: object) -> None:
        assert isinstance(step, Command)
        self.log.append(f"undo: {' '.join(step.argv)}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that is run, with the bridge obr0 known to Open vSwitch."""
    lines: list[str] = []

    def run(argv: Sequence[str], *, text: str = "") -> str:
        lines.append(" ".join(argv) + "".join(f" | {line}" for line in text.splitlines()))
        if argv[-2] == "br-exists" and argv[-1] != "obr0":
            raise UplinkError("status 2")
        return ""

    monkeypatch.setattr(programs, "find", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(sysctl, "quiet_device", lambda device, ipv6: None)
    monkeypatch.setattr(link, "open_tap", lambda name, undo: os.open(os.devnull, os.O_RDWR))
    return lines


def test_only_bridges_of_open_vswitch_are_joined(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert bridged.is_open_vswitch("obr0")
    assert not bridged.is_open_vswitch("br0")
    asked = len(log)
    assert not bridged.is_open_vswitch("--db=elsewhere")
    monkeypatch.setattr(programs, "find", lambda name: None)
    assert not bridged.is_open_vswitch("obr0")
    assert len(log) == asked == 2


def test_the_port_is_recorded_before_it_is_added(log: list[str]) -> None:
    os.close(bridged.join_open_vswitch("obr0", "vmnet-1a2b3c4d", "02:00:00:00:00:01", Recorder(log)))
    assert log == [
        "ip -batch - | link set dev vmnet-1a2b3c4d address fe:00:00:00:00:01 | link set dev vmnet-1a2b3c4d up",
        "undo: /usr/bin/ovs-vsctl --timeout=5 --if-exists del-port obr0 vmnet-1a2b3c4d",
        "ovs-vsctl --timeout=5 --may-exist add-port obr0 vmnet-1a2b3c4d",
    ]
