"""The console's language: forms that scripts parse, compared with what vde_switch 2.3.2 prints."""

import pytest

from vde_vmnet.wire.console import Console, Facts, Port, Snapshot, Station, commands

FACTS = Facts("0.1.0", 4711, "/run/sw", 0o660, "/run/mgmt", 0o600, 4096, 8192, 300)
SNAPSHOT = Snapshot(
    ports=(Port(3, 0, 0, 1, 60, ((11, "port3bis"), (9, "port3"))), Port(4, 2, 120, 0, 0, ((12, "four"),))),
    stations=(Station("02:00:00:00:00:01", 1, 1),),
    uptime=10,
)


def answer(line: str) -> str:
    return Console(FACTS, lambda: SNAPSHOT).answer(line).text


def data(line: str) -> list[str]:
    first, *lines, dot, status = answer(line).splitlines()
    assert (first, dot, status) == ("0000 DATA END WITH '.'", ".", "1000 Success")
    return lines


def test_a_port_looks_as_scripts_expect_it() -> None:
    assert data("port/print 3") == [
        "Port 0003 untagged_vlan=0000 ACTIVE - Unnamed Allocatable",
        " Current User: NONE Access Control: (User: NONE - Group: NONE)",
        " IN:  pkts          0          bytes                    0",
        " OUT: pkts          1          bytes                   60",
        "  -- endpoint ID 0011 module unix prog   : port3bis",
        "  -- endpoint ID 0009 module unix prog   : port3",
    ]
    assert data("port/print") == data("port/allprint") and len(data("port/print")) == 11


def test_a_station_looks_as_scripts_expect_it() -> None:
    line = "Hash: 0001 Addr: 02:00:00:00:00:01 VLAN 0000 to port: 001  age 1 secs"
    for command in ("hash/print", "hash/find 02:00:00:00:00:01", "hash/find 02-00-00-00-00-01 0"):
        assert data(command) == [line]


def test_the_rest_of_what_is_shown() -> None:
    assert data("showinfo")[2:] == ["", "pid 4711 MAC 00:00:00:00:00:00 uptime 10", "mgmt /run/mgmt perm 0600"]
    assert data("showinfo")[0] == "VDE switch V.0.1.0"
    assert data("ds/showinfo") == ["ctl dir /run/sw", "std mode 0660"]
    assert data("port/showinfo") == ["Numports=4096", "HUB=false", "counters=true"]
    assert data("hash/showinfo") == [
        "Hash size 8192",
        "GC interval 0 secs",
        "GC expire 300 secs",
        "Min persistence 0 secs",
    ]


def test_help_is_a_table_that_can_be_completed_from() -> None:
    lines = data("help")
    assert lines[0] == "COMMAND PATH       SYNTAX          HELP"
    assert lines[1] == "------------       --------------  ------------"
    assert "port               ============    PORT STATUS MENU" in lines
    assert "hash/find          MAC [VLAN]      MAC lookup" in lines
    assert not [line for line in lines if line.startswith("vlan")]
    assert [line.split()[0] for line in data("help hash/")[2:]] == ["hash/showinfo", "hash/print", "hash/find"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("nonsense", "1038 Function not implemented"),
        ("port", "1038 Function not implemented"),
        ("port/print 9", "1006 No such device or address"),
        ("port/print x", "1022 Invalid argument"),
        ("hash/find", "1022 Invalid argument"),
        ("hash/find zz", "1022 Invalid argument"),
        ("hash/find 02:00:00:00:00:09", "1019 No such device"),
        ("hash/find 02:00:00:00:00:01 7", "1019 No such device"),
        (
            "vlan/create 3",
            "1095 Operation not supported (tagged frames pass as they are; there is no VLAN table)",
        ),
        ("port/create 2", "1095 Operation not supported (ports come and go with their clients)"),
        ("hash/setexpire 3", "1095 Operation not supported (it is chosen when the daemon starts)"),
        ("fstp/print", "1095 Operation not supported (there is no spanning tree)"),
    ],
)
def test_refusals(line: str, status: str) -> None:
    assert answer(line).splitlines()[-1] == status


def test_the_end() -> None:
    console = Console(FACTS, lambda: SNAPSHOT)
    logout, shutdown = console.answer("logout"), console.answer("shutdown")
    assert logout.text == shutdown.text == "9999 END OF SESSION"
    assert (logout.ends, logout.stops, shutdown.ends, shutdown.stops) == (True, False, True, True)
    assert console.answer("").text == console.answer("# note").text == ""


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"help\n", ["help"]),
        (b"help", ["help"]),
        (b"  help \r\n", ["help"]),
        (b"help\nlogout\n", ["help", "logout"]),
        (b"\n", [""]),
        (b"\x1b[2Jhelp\xff\n", ["[2Jhelp\N{REPLACEMENT CHARACTER}"]),
    ],
)
def test_lines_of_a_read(data: bytes, lines: list[str]) -> None:
    assert commands(data) == lines
