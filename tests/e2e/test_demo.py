"""``vde_vmnet demo`` as a user calls it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.package import package_for_all

DEMO = [sys.executable, "-m", "vde_vmnet", "demo"]


def leftovers() -> set[str]:
    """What a demo makes outside its namespaces."""
    return {
        str(path) for path in [*Path("/run").glob("vde_vmnet-demo-*"), *Path("/tmp").glob("vde_vmnet-demo-*")]
    }


@pytest.mark.root
@pytest.mark.guest
def test_every_row_holds_and_the_evidence_is_kept_on_request(tmp_path: Path) -> None:
    before = leftovers()
    links = Path("/proc/net/dev").read_text().count(":")
    started = time.monotonic()
    done = subprocess.run([*DEMO, "--evidence", str(tmp_path)], capture_output=True, text=True, check=False)
    took = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(ok|FAILED)  (.+?)  +[\d.]+ s  (.+)$", done.stdout, re.MULTILINE)
    assert len(rows) == 10
    assert {row[0] for row in rows} == {"ok"}
    assert "\x1b" not in done.stdout, "colour is for terminals"
    assert {path.name for path in tmp_path.iterdir()} == {"daemon.log", "guest-console.log", "guest-qemu.txt"}
    assert leftovers() == before
    assert Path("/proc/net/dev").read_text().count(":") == links, "the host's own network is as it was"
    # 15 s is promised for a machine of one's own; this one may be busy with other tests.
    assert took < 45


@pytest.mark.root
@pytest.mark.guest
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(number: signal.Signals) -> None:
    before = leftovers()
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True) as demo:
        assert demo.stdout is not None
        said = ""
        while "Booting" not in said:
            said += demo.stdout.read(1)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(demo.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        demo.send_signal(number)
        rest, _ = demo.communicate(timeout=20)
    assert demo.returncode == 130, said + rest
    assert leftovers() == before
    assert children
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def python_for_others() -> str:
    """An interpreter of our version that every user can run: the tests' own may be in root's home."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, "/usr/bin/python3"):
        said = subprocess.run(
            [*nobody, "sh", "-c", f"exec {program} -c 'import sys; print(sys.version)'"],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.stdout.startswith(f"{ours}."):
            return program
    pytest.skip(f"no python {ours} that an ordinary user may run")


@pytest.mark.root
@pytest.mark.guest
def test_without_root_it_is_the_user_mode_network() -> None:
    with tempfile.TemporaryDirectory(prefix="vdet-demo-") as place, package_for_all() as package:
        Path(place).chmod(0o777)
        done = subprocess.run(
            [
                *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"),
                *(python_for_others(), "-m", "vde_vmnet", "demo"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": place,
                "TMPDIR": place,
                "PYTHONPATH": str(package),
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        rows = re.findall(r"^(ok|FAILED)  (.+?)  +[\d.]+ s  (.+)$", done.stdout, re.MULTILINE)
        assert [row[0] for row in rows] == 8 * ["ok"]
        # The guest's image, and nothing else.
        assert {path.name for path in Path(place).iterdir()} == {".cache"}


def test_help_and_wrong_options() -> None:
    done = subprocess.run([*DEMO, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--evidence=DIR" in done.stdout
    done = subprocess.run([*DEMO, "--nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--nonsense" in done.stderr


@pytest.mark.root
def test_what_is_missing_is_named_with_the_command_to_get_it(tmp_path: Path) -> None:
    for program in ("busybox", "dnsmasq", "ip", "setpriv"):
        found = shutil.which(program)
        assert found is not None
        (tmp_path / program).symlink_to(found)
    for program in ("qemu-system-x86_64", "nft"):
        done = subprocess.run(DEMO, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
        assert done.returncode == 3, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert "apt-get install" in done.stderr
        (tmp_path / program).symlink_to("/bin/true")
