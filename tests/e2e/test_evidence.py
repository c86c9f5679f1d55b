"""A test that fails leaves what is needed to find out why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import EVIDENCE

ROOT = Path(__file__).parents[2]

BROKEN = """\
import pytest

pytestmark = [pytest.mark.root, pytest.mark.guest]


def test_broken_on_purpose(guest_online):
    assert guest_online.check("echo seen in the guest") == "something else"


def test_whole(daemon):
    pass
"""


@pytest.mark.root
@pytest.mark.guest
def test_a_broken_test_leaves_console_log_packets_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text(BROKEN)
    place = EVIDENCE / "test_broken_on_purpose"
    shutil.rmtree(place, ignore_errors=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"),
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert str(place) in done.stdout, "the report says where to look"
    assert "seen in the guest" in (place / "guest1-console.log").read_text()
    assert "plugged in" in (place / "daemon.log").read_text()
    assert "-netdev vde" in (place / "guest1-qemu.txt").read_text()
    packets = subprocess.run(
        ["tcpdump", "-nr", str(place / "host.pcap"), "port", "67"], capture_output=True, text=True, check=True
    ).stdout
    assert "BOOTP/DHCP, Request" in packets
    assert not (EVIDENCE / "test_whole").exists()
    shutil.rmtree(place)
