"""Answers as tables, in a pipe and on a terminal; what guests chose does nothing to either."""

from __future__ import annotations

import io

from tests.unit.observe.networks import STARTED, counters, network, port
from vde_vmnet.cli import observing
from vde_vmnet.control import models
from vde_vmnet.observe import views
from vde_vmnet.observe.snapshot import Rate
from vde_vmnet.observe.tables import Column, Table, clean, duration, moment, tsv


class Terminal(io.StringIO):
    """Text for people."""

    def isatty(self) -> bool:
        return True


def lines(table: Table) -> list[list[str]]:
    return [line.split("\t") for line in tsv(table).splitlines()]


def test_a_table_in_a_pipe_is_a_line_for_each_row() -> None:
    table = Table((Column("A"), Column("B")), (("1", ""), ("x\ty", "z\nw")))
    assert tsv(table) == "A\tB\n1\t-\nx?y\tz?w\n"
    assert tsv(Table((Column("A"),), ())) == "A\n"


def test_ports() -> None:
    head, first, uplink = lines(
        views.ports(
            [port(1, "web", count=counters(5, full=2)), port(65535, "tap", "uplink", up=False, command=None)]
        )
    )
    assert head[:7] == ["PORT", "KIND", "STATE", "NAME", "MAC", "ADDRESS", "PEER"]
    assert first[:4] == ["1", "vde", "up", "web"]
    assert first[6] == "qemu-system-x86 (4001, anne)"
    assert first[7:] == ["5", "500", "5", "500", "0", "2: full 2"]
    assert uplink[2] == "down" and uplink[6] == "-"


def test_who_is_at_the_other_end_where_little_is_known() -> None:
    peers = [models.Peer(), models.Peer(pid=7), models.Peer(pid=8, uid=12, command="a\x1b[2Jb")]
    one = models.Port(
        number=1,
        kind="vde",
        up=True,
        name="",
        macs=[],
        addresses=[],
        endpoints=[models.Endpoint(number=at, name="", peer=peer) for at, peer in enumerate(peers)],
        counters=models.Counters(),
    )
    assert views.peer_text(one) == "? (7), a?[2Jb (8, 12)"


def test_status() -> None:
    found = dict(views.facts(network(), Rate(rx_bytes=125_000), counters(0, full=1)))
    assert found["up"] == f"1 h 2 min, since {moment(STARTED)}"
    assert found["uplink"] == "linux, shared, 192.168.105.1, DHCP to 192.168.105.254, MTU 1500"
    assert found["traffic"] == "1.00 Mbit/s received, 0 bit/s sent, 0 dropped/s"
    assert found["drops"] == "1: full 1"
    _, row = lines(views.status_ports([port(1)], {1: Rate(tx_bytes=125)}))
    assert row[-3:] == ["0 bit/s", "1.00 kbit/s", "0"]
    _, unmeasured = lines(views.status_ports([port(1)], {}))
    assert unmeasured[-3:] == ["-", "-", "0"]


def test_stations_and_leases() -> None:
    entry = models.FdbEntry(mac="52:54:00:00:00:01", port=3, age_seconds=7.6, addresses=["10.0.0.1", "fd00::1"])
    assert lines(views.fdb([entry]))[1] == ["52:54:00:00:00:01", "3", "8", "10.0.0.1, fd00::1", "-"]
    lease = models.Lease(address="10.0.0.1", mac=None, name="web", expires=None, port=0, reserved=True)
    assert lines(views.leases([lease]))[1] == ["10.0.0.1", "-", "web", "never", "0", "yes"]


def test_a_terminal_gets_a_table_in_which_names_are_only_names() -> None:
    out = Terminal()
    observing.show(views.ports([port(1, "[red]x[/red]\x1b[31m")]), out)
    shown = out.getvalue()
    assert "[red]" in shown and "\x1b[31m" not in shown
    assert "192.168.105.1" in shown and "RX_BYTES" in shown and "QUEUED" not in shown, "80 columns are few"
    empty = Terminal()
    observing.show(views.fdb([]), empty)
    assert empty.getvalue() == "No station has been heard of yet\n"
    piped = io.StringIO()
    observing.show(views.fdb([]), piped)
    assert piped.getvalue() == "MAC\tPORT\tAGE\tADDRESS\tNAME\n"


def test_times() -> None:
    assert [duration(value) for value in (-1, 59, 61, 3600, 90061)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "1 d 1 h",
    ]
    assert moment(None) == ""
    assert clean("ä\x00\u202e") == "ä??"
