"""Readiness as systemd hears it."""

import socket
from pathlib import Path

import pytest

from vde_vmnet.notify import announce_ready


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_said_once_to_the_socket_that_is_named(tmp_path: Path, abstract: bool) -> None:
    name = "\0vdet-notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(5)
        environment = {"NOTIFY_SOCKET": name.replace("\0", "@"), "OTHER": "x"}
        announce_ready(environment)
        assert systemd.recv(100) == b"READY=1"
        assert environment == {"OTHER": "x"}, "not for our children"
        announce_ready(environment)
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


@pytest.mark.parametrize("address", ["", "relative", "/no/where/socket", "@", "vsock:2:1"])
def test_nobody_there_is_no_failure(address: str) -> None:
    announce_ready({"NOTIFY_SOCKET": address})
