"""Files in turn, each of which can be read by itself; filters as tcpdump compiles them; wrong options."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from scapy.utils import rdpcap

from tests.unit.observe.test_pcapng import INTERFACE, PACKET, SECTION
from vde_vmnet.cli import capture
from vde_vmnet.errors import ConfigurationError
from vde_vmnet.observe.capture import Files, Rotation, record
from vde_vmnet.observe.pcap_filter import compile_filter
from vde_vmnet.observe.pcapng import Blocks


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_file_without_rotation(tmp_path: Path) -> None:
    blocks, target = Blocks(), Files(tmp_path / "all.pcapng", Rotation())
    record([SECTION + INTERFACE, PACKET, PACKET[:9], PACKET[9:]], target, blocks)
    target.close()
    assert (tmp_path / "all.pcapng").read_bytes() == SECTION + INTERFACE + PACKET * 2
    assert blocks.frames == 2


def test_by_size_the_last_files_are_kept_and_each_can_be_read(tmp_path: Path) -> None:
    size = len(SECTION + INTERFACE + PACKET * 2)
    target = Files(tmp_path / "all.pcapng", Rotation(size=size, files=2))
    record([SECTION + INTERFACE, *[PACKET] * 7], target, Blocks())
    target.close()
    assert names(tmp_path) == ["all_00003.pcapng", "all_00004.pcapng"]
    assert [len(rdpcap(str(path))) for path in target.written] == [2, 1]
    assert all(path.stat().st_size <= size for path in target.written)


def test_by_time(tmp_path: Path) -> None:
    clock = Clock()
    target = Files(tmp_path / "all.pcapng", Rotation(seconds=10), now=clock)
    blocks = Blocks()
    for clock.now in (0, 5, 10, 11, 30):
        record([SECTION + INTERFACE + PACKET if clock.now == 0 else PACKET], target, blocks)
    target.close()
    assert [len(rdpcap(str(path))) for path in target.written] == [2, 2, 1]


@pytest.mark.parametrize(
    "expression", ["arp", "udp port 67 or udp port 68", "ether host 52:54:00:12:34:56", "vlan 3"]
)
def test_filters_are_what_tcpdump_makes_of_them(expression: str) -> None:
    shown = subprocess.run(
        ["tcpdump", "-ddd", "-y", "EN10MB", "-s", "262144", expression],
        check=False,
        capture_output=True,
        text=True,
    )
    if shown.returncode != 0:
        pytest.skip(f"tcpdump compiles nothing here: {shown.stderr}")
    _, *lines = shown.stdout.splitlines()
    assert compile_filter(expression) == [tuple(map(int, line.split())) for line in lines]


@pytest.mark.parametrize("expression", ["no such word", "port", "arp\0"])
def test_wrong_filters_are_refused_with_what_libpcap_says(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="--filter"):
        compile_filter(expression)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--count", "0"], "nothing"),
        (["--count", "-1"], "whole number"),
        (["--snaplen", "13"], "14 to 262144"),
        (["--duration", "nan"], "seconds"),
        (["-w", "x", "--rotate-size", "1"], "from 1M on"),
        (["-w", "x", "--rotate-files", "3"], "nothing about when"),
        (["-w", "x", "--rotate-size", "1M", "--rotate-files", "0"], "keep nothing"),
        (["--rotate-size", "1M"], "need files"),
        (["-w", "x", "--filter", "no such word"], "not understood"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_asked_for(options: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        capture.main(options)
