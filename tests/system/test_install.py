"""Installations on Linux: for real, in a mount namespace of their own, and staged for another system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import wait_until
from tests.support.netns import Namespace
from tests.support.vde_peer import VdePeer, frame

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("vde_vmnet")
UNITS = Path("/etc/systemd/system")


class Mounts:
    """A mount namespace in which ``/etc/systemd/system`` is an empty folder. A context manager."""

    def __init__(self) -> None:
        script = f"mount -t tmpfs -o mode=755 units {UNITS} && echo ready && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Mounts:
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()  # end of input ends it

    def run(self, *argv: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = run("nsenter", "-m", "-t", str(self._holder.pid), "--wd=/", *argv)
        assert done.returncode == status, done.stdout + done.stderr
        return done


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, argv)), check=False, capture_output=True, text=True, timeout=50, cwd=ROOT
    )


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    with Mounts() as namespace:
        yield namespace


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that only root can change; /tmp is not one."""
    with tempfile.TemporaryDirectory(prefix="vdet-", dir="/var/lib") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.root
def test_installed_it_runs_and_removed_it_leaves_nothing(place: Path, mounts: Mounts, host: Namespace) -> None:
    prefix = place / "vde"
    said = mounts.run(PROGRAM, "install", f"--prefix={prefix}", "--bridged=eth9").stdout
    assert f"installed below {prefix}" in said
    assert mounts.run("ls", UNITS).stdout.split() == ["vde_vmnet.service", "vde_vmnet@.service"]
    for path in (prefix, *prefix.rglob("*")):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        assert path.is_symlink() or not status.st_mode & 0o022, path

    installed = prefix / "bin/vde_vmnet"
    assert run(installed, "--version").stdout == run(PROGRAM, "--version").stdout
    ordinary = ("setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups")
    assert run(*ordinary, prefix / "bin/socket_vmnet_client", "--version").returncode == 0
    assert (prefix / "share/man/man1/vde_vmnet-status.1").is_file()
    # What commands about a running network need is there: this one gets as far as looking for it.
    looked = run(*ordinary, installed, "status", place / "none")
    assert looked.returncode == 3 and "No network with a control socket runs at" in looked.stderr
    hostile = {"PYTHONPATH": str(place), "PATH": "/usr/bin:/bin"}
    (place / "vde_vmnet.py").write_text("raise SystemExit(99)")
    assert subprocess.run([installed, "--version"], cwd=place, env=hostile, check=False).returncode == 0

    directory, pidfile = place / "ctl", place / "pid"
    options = (f"--pidfile={pidfile}", "--vmnet-gateway=192.168.105.1", str(directory))
    daemon = subprocess.Popen(host.command(str(installed), *options), stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: pidfile.exists() or daemon.poll() is not None, "it is ready", 20)
        with VdePeer(directory) as one, VdePeer(directory) as two:
            one.send(frame(-1, 7, b"hello"))
            while two.receive() != [frame(-1, 7, b"hello")]:
                pass  # the host says hello too
            # Served by the service user, from what is installed.
            shown = run(installed, "ports", directory)
            assert shown.returncode == 0 and "\t02:00:00:00:00:07\t" in shown.stdout, (
                shown.stdout + shown.stderr
            )
    finally:
        daemon.terminate()
        _, log = daemon.communicate(timeout=20)
    assert daemon.returncode == 0, log

    mounts.run(installed, "uninstall")
    assert mounts.run("ls", UNITS).stdout == ""
    assert [path.name for path in place.iterdir()] == ["vde_vmnet.py"]


@pytest.mark.root
def test_systemd_finds_no_fault_with_the_units(place: Path, mounts: Mounts) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "it comes with Debian's package systemd"
    mounts.run(PROGRAM, "install", f"--prefix={place / 'vde'}", "--bridged=eth9")
    units = [UNITS / "vde_vmnet.service", UNITS / "vde_vmnet@eth9.service"]
    verified = mounts.run(analyze, "verify", "--man=no", *units)
    assert "vde_vmnet" not in verified.stdout + verified.stderr
    mounts.run(PROGRAM, "uninstall", f"--prefix={place / 'vde'}")


@pytest.mark.root
def test_installing_again_keeps_what_was_asked_for_before(place: Path, mounts: Mounts) -> None:
    prefix = f"--prefix={place / 'vde'}"
    mounts.run(PROGRAM, "install", prefix, "--bridged=eth9", "--gateway=10.77.0.1")
    mounts.run(place / "vde/bin/vde_vmnet", "install", "--bridged=eth8", "--group=users")  # it means itself
    shown = mounts.run(PROGRAM, "install", prefix, "--dry-run").stdout
    assert "--vde-group=users --vmnet-gateway=10.77.0.1 /var/run/vde.ctl" in shown
    record = (place / "vde/lib/vde_vmnet.json").read_text()
    assert "vde_vmnet@eth8.service" in record and "vde_vmnet@eth9.service" in record
    assert not list((place / "vde/lib").glob(".*")), "nothing of the former one is left"
    mounts.run(PROGRAM, "uninstall", prefix)
    assert not list(place.iterdir())


def test_staged_with_make_for_another_system(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    arguments = (f"DESTDIR={stage}", "PREFIX=/opt/elsewhere", "BRIDGED=eth9")
    done = run("make", "-o", "build", "install", *arguments)  # built it is: these tests run
    assert done.returncode == 0, done.stdout + done.stderr
    launcher = (stage / "opt/elsewhere/bin/vde_vmnet").read_text()
    assert launcher.startswith("#!/opt/elsewhere/lib/vde_vmnet/bin/python -I\n"), "as it will be called there"
    unit = (stage / "etc/systemd/system/vde_vmnet.service").read_text()
    assert "ExecStart=/opt/elsewhere/bin/vde_vmnet " in unit and str(stage) not in unit
    done = run("make", "uninstall", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(stage.rglob("*")), "nothing is left"


@pytest.mark.root
def test_commands_without_services(place: Path, mounts: Mounts) -> None:
    prefix = f"--prefix={place / 'vde'}"
    mounts.run(PROGRAM, "install", prefix, "--no-services")
    assert mounts.run("ls", UNITS).stdout == "" and (place / "vde/bin/socket_vmnet").exists()
    mounts.run(PROGRAM, "install", prefix)
    assert mounts.run("ls", UNITS).stdout == "vde_vmnet.service\n"
    mounts.run(PROGRAM, "install", prefix, "--no-services")
    assert mounts.run("ls", UNITS).stdout == "", "the services of before are gone"
    mounts.run(PROGRAM, "uninstall", prefix)
    assert not list(place.iterdir())


@pytest.mark.root
def test_a_dry_run_does_nothing(place: Path, mounts: Mounts) -> None:
    done = mounts.run(PROGRAM, "install", f"--prefix={place / 'vde'}", "--dry-run")
    assert "ExecStart=" in done.stdout and not list(place.iterdir())
    assert mounts.run("ls", UNITS).stdout == ""
    mounts.run(PROGRAM, "install", f"--prefix={place / 'vde'}")
    before = sorted(path for path in place.rglob("*"))
    done = mounts.run(PROGRAM, "uninstall", f"--prefix={place / 'vde'}", "--dry-run")
    assert f"{place}/vde/bin/vde_vmnet\n" in done.stdout
    assert sorted(path for path in place.rglob("*")) == before
    mounts.run(PROGRAM, "uninstall", f"--prefix={place / 'vde'}")


@pytest.mark.root
@pytest.mark.parametrize("spoil", ["owner", "group", "everybody", "parent", "link"])
def test_a_prefix_that_others_can_change_is_refused(place: Path, mounts: Mounts, spoil: str) -> None:
    prefix, culprit = place / "a/b", place / "a"
    culprit.mkdir()
    if spoil == "owner":
        os.chown(culprit, 65534, 0)
    elif spoil == "group":
        os.chown(culprit, 0, 65534)
        culprit.chmod(0o775)
    elif spoil == "everybody":
        culprit.chmod(0o757)
    elif spoil == "parent":
        os.chown(place, 65534, 0)
        culprit = place
    else:
        culprit.rmdir()
        culprit.symlink_to("open/inside")
        culprit = place / "open"
        (culprit / "inside").mkdir(parents=True)
        culprit.chmod(0o1777)  # the mark of /tmp does not help: what is not there yet, anybody can make
    for verb in (("install",), ("install", "--dry-run"), ("uninstall",)):
        done = mounts.run(PROGRAM, *verb, f"--prefix={prefix}", status=4)
        assert f'"{culprit}"' in done.stderr and "root runs what lies there" in done.stderr, done.stderr
    assert not prefix.exists()


@pytest.mark.root
def test_root_s_own_group_and_sound_links_are_no_reason(place: Path, mounts: Mounts) -> None:
    (place / "real").mkdir(mode=0o755)
    (place / "real").chmod(0o775)  # its group is root
    (place / "link").symlink_to("real")
    mounts.run(PROGRAM, "install", f"--prefix={place / 'link/vde'}")
    assert (place / "real/vde/bin/vde_vmnet").exists()
    mounts.run(PROGRAM, "uninstall", f"--prefix={place / 'link/vde'}")
    assert not list((place / "real").iterdir())


@pytest.mark.root
def test_an_interpreter_that_others_can_change_is_refused(place: Path, mounts: Mounts) -> None:
    theirs = place / "python"
    theirs.symlink_to(os.path.realpath(sys.executable))
    os.chown(theirs, 65534, 65534, follow_symlinks=False)
    done = mounts.run(PROGRAM, "install", f"--prefix={place / 'vde'}", f"--python={theirs}", status=1)
    assert f'--python "{theirs}"' in done.stderr and f'"{theirs}" belongs to user' in done.stderr
    assert list(place.iterdir()) == [theirs]


@pytest.mark.root
def test_a_group_that_is_not_there_is_refused(place: Path, mounts: Mounts) -> None:
    done = mounts.run(PROGRAM, "install", f"--prefix={place / 'vde'}", "--group=absent9", status=1)
    assert '"absent9"' in done.stderr and "--group" in done.stderr and not list(place.iterdir())


@pytest.mark.root
def test_without_root_it_says_so_and_shows_the_plan(place: Path) -> None:
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups")
    staged = run(PROGRAM, "install", f"--destdir={place}/stage", f"--prefix={place}/vde")
    assert staged.returncode == 0
    program = place / f"stage{place}/vde/lib/vde_vmnet/bin/python"
    done = run(*as_nobody, program, "-I", "-m", "vde_vmnet", "install", f"--prefix={place}/vde")
    assert done.returncode == 4 and "needs root" in done.stderr and "--dry-run" in done.stderr
    done = run(*as_nobody, program, "-I", "-m", "vde_vmnet", "install", f"--prefix={place}/vde", "--dry-run")
    assert done.returncode == 0 and "ExecStart=" in done.stdout, done.stderr


def test_the_guide_names_every_option() -> None:
    guide = (ROOT / "docs/guides/install.md").read_text()
    shown = run(PROGRAM, "install", "--help").stdout
    options = set(re.findall(r"--[a-z-]+", shown)) - {"--help", "--vde-group"}
    assert options and {option for option in options if option not in guide} == set()


def test_the_sudoers_rules_are_valid(tmp_path: Path) -> None:
    checker = shutil.which("visudo")
    assert checker is not None, "it comes with Debian's package sudo"
    done = run(PROGRAM, "sudoers", "--bridged=eth9", "--group=kvm")
    assert done.returncode == 0 and done.stdout.count("%kvm ALL=(root:root) NOPASSWD:NOSETENV: ") == 2
    (tmp_path / "rules").write_text(done.stdout)
    (tmp_path / "rules").chmod(0o440)
    assert run(checker, "-c", "-f", tmp_path / "rules").returncode == 0


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("install", "--prefix=relative"), 1, "not an absolute path"),
        (("install", "--prefix=/"), 1, "not an absolute path"),
        (("install", "--prefix=/opt/a b"), 1, "characters"),
        (("install", "--bridged=../x"), 1, "--bridged"),
        (("install", "--gateway=here"), 1, "--gateway"),
        (("install", "--no-services", "--bridged=eth9"), 1, "--no-services"),
        (("install", "--with-vde-switch", "--destdir=/nonexistent"), 1, "for macOS"),
        (("install", "--destdir=/proc/no", "--prefix=/opt/x"), 7, "/proc/no"),
        (("uninstall", "--prefix=/opt/not/there"), 1, "Nothing is installed"),
    ],
)
def test_a_wrong_request_is_one_line_that_says_what(argv: tuple[str, ...], status: int, words: str) -> None:
    done = run(PROGRAM, *argv)
    assert done.returncode == status and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
