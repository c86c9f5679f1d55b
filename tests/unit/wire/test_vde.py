"""The handshake codec against captured bytes and against itself."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vde_vmnet.errors import PeerError
from vde_vmnet.wire import vde

DATA = Path(__file__).parents[2] / "data"


def request(**changes: object) -> vde.PlugRequest:
    return vde.PlugRequest(**{"path": b"/tmp/c", "port": None, "description": "test"} | changes)  # type: ignore[arg-type]


def test_captured_qemu_request() -> None:
    parsed = vde.parse_request((DATA / "vde_request_qemu_vdeplug4.bin").read_bytes())
    assert parsed == request(path=b"/tmp/proto/sw/.18922-00000", description="QEMU user=root pid=18922")


def test_captured_reply() -> None:
    captured = (DATA / "vde_reply_vde_switch.bin").read_bytes()
    assert vde.parse_reply(captured) == b"/tmp/proto/sw/001.6"
    assert vde.encode_reply(b"/tmp/proto/sw/001.6") == captured


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (request(port=5), request(port=5)),
        (request(port=65535), request(port=65535)),
        (request(port=(1 << 24) - 1), request(port=(1 << 24) - 1)),
        (request(port0=True), request(port0=True)),
        (request(description=""), request(description="")),
        (request(description="evil\x1b[2J\nline"), request(description="evil�[2J�line")),
        (request(path=b"/" + b"x" * 106), request(path=b"/" + b"x" * 106)),
        (request(path=b"\0abstract".ljust(108, b"\0")), request(path=b"\0abstract".ljust(108, b"\0"))),
    ],
)
def test_round_trip(sent: vde.PlugRequest, expected: vde.PlugRequest) -> None:
    assert vde.parse_request(vde.encode_request(sent)) == expected


def test_version_1_is_understood() -> None:
    head = struct.pack("=II6s", 0xFEEDFACE, 0, b"\x02\0\0\0\0\1")
    address = struct.pack("=H108s", 1, b"/tmp/c")
    assert vde.parse_request(head + address + b"rawv1") == request(description="rawv1")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "shorter than its header"),
        (b"GET / HTTP/1.1\r\n\r\n", "VDE magic"),
        (struct.pack("=II", 0xFEEDFACE, 3), "shorter than its header"),
        (struct.pack("=III", 0xFEEDFACE, 2, 0) + bytes(110), "version 2"),
        (struct.pack("=III", 0xFEEDFACE, 512, 0) + bytes(110), "version 512"),
        (struct.pack("=III", 0xFEEDFACE, 3, 7) + bytes(110), "type 7"),
        (struct.pack("=III", 0xFEEDFACE, 3, 0) + bytes(109), "ends inside the address"),
        (struct.pack("=IIIH", 0xFEEDFACE, 3, 0, 2) + b"/tmp/c".ljust(108, b"\0"), "family 2"),
        (struct.pack("=IIIH", 0xFEEDFACE, 3, 0, 1) + bytes(108), "names no client socket"),
        (vde.encode_request(request()) + bytes(257), "longer than"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        vde.parse_request(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        parsed = vde.parse_request(data)
    except PeerError:
        return
    assert 0 < len(parsed.path) <= vde.SUN_PATH_SIZE
    assert parsed.description.isprintable()


@given(st.integers(0, 145))
def test_a_cut_request_is_refused_or_only_loses_description(length: int) -> None:
    whole = (DATA / "vde_request_qemu_vdeplug4.bin").read_bytes()
    if length < 122:
        with pytest.raises(PeerError):
            vde.parse_request(whole[:length])
    else:
        assert vde.parse_request(whole[:length]).path == b"/tmp/proto/sw/.18922-00000"


def test_too_long_a_path_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="108 bytes"):
        vde.encode_reply(b"/" * 108)
