"""Which of vmnet's offloads are asked for, on which macOS."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from vde_vmnet.config.model import Mode, UplinkConfig, VmnetOffload
from vde_vmnet.uplinks.vmnet import library, request
from vde_vmnet.uplinks.vmnet.offload import Offload, choose, entries


@pytest.mark.parametrize(
    ("mode", "macos", "expected"),
    [
        (Mode.SHARED, (26, 2), Offload.TSO),
        (Mode.SHARED, (27, 0), Offload.TSO),
        (Mode.SHARED, (26, 1), Offload.NONE),
        (Mode.SHARED, (15, 6), Offload.NONE),
        (Mode.HOST, (26, 2), Offload.TSO),
        (Mode.BRIDGED, (26, 4), Offload.NONE),
        (Mode.BRIDGED, (26, 5), Offload.TSO),
        (Mode.SHARED, (), Offload.NONE),
    ],
)
def test_by_itself_only_where_it_is_a_gain(mode: Mode, macos: tuple[int, ...], expected: Offload) -> None:
    assert choose(UplinkConfig(mode=mode, interface="en0"), macos) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (VmnetOffload.ON, Offload.TSO),
        (VmnetOffload.OFF, Offload.NONE),
        (VmnetOffload.VIRTIO, Offload.VIRTIO),
    ],
)
def test_what_is_said_holds_on_every_macos(said: VmnetOffload, expected: Offload) -> None:
    for macos in ((11, 0), (26, 5)):
        assert choose(UplinkConfig(offload=said), macos) is expected


def test_headers_and_checksum_offload_exclude_each_other() -> None:
    assert [entry.symbol for entry in entries(Offload.TSO)] == [
        "vmnet_enable_tso_key",
        "vmnet_enable_checksum_offload_key",
    ]
    assert [entry.symbol for entry in entries(Offload.VIRTIO)] == [
        "vmnet_enable_tso_key",
        "vmnet_enable_virtio_header_key",
    ]
    assert entries(Offload.NONE) == []


@pytest.mark.parametrize("mode", Mode)
def test_each_way_to_start_asks_for_it(mode: Mode) -> None:
    config = UplinkConfig(mode=mode, interface="en0" if mode is Mode.BRIDGED else None)
    for offload in Offload:
        for asked in (request.classic(config, "1a2b3c4d", offload), request.in_network(config, offload)):
            assert [entry for entry in asked if "enable" in entry.symbol] == entries(offload)


@pytest.mark.parametrize(
    ("darwin", "macos"),
    [
        ("20.6.0", (11, 6)),
        ("24.6.0", (15, 6)),
        ("25.2.0", (26, 2)),
        ("26.0.1", (27, 0)),
        ("19.6.0", ()),
        ("6.1.0-rc3", ()),
        ("odd", ()),
        ("25.x.0", ()),
    ],
)
def test_the_version_is_that_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, darwin: str, macos: tuple[int, ...]
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=darwin))
    assert library.macos_version() == macos
