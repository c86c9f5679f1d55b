"""Installations for launchd, below a folder in place of a Mac's root; a double records what launchctl is told.

The package and its interpreter are real, so what is built is tried as on a Mac; launchctl itself is not.
"""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from vde_vmnet.cli.install import install_main, uninstall_main
from vde_vmnet.errors import ConflictError, ServiceError
from vde_vmnet.keeper import Stopped
from vde_vmnet.service.apply import install, read_record, uninstall
from vde_vmnet.service.interpreter import choose
from vde_vmnet.service.networks import ServiceNetwork
from vde_vmnet.service.payload import running_package
from vde_vmnet.service.plan import Command, Plan, installation

PREFIX = PurePosixPath("/opt/vde")
LABEL = "io.github.lima-vm.vde_vmnet.plist"
BRIDGED = "io.github.lima-vm.vde_vmnet.bridged.en0.plist"


class Launchctl:
    """Knows what is loaded, as launchd does; refuses the command that is in ``refuse``, once.

    A service that was told to go is there for two more looks.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[str] = []
        self.loaded: dict[str, bytes] = {}
        self.refuse: str | None = None
        self.going: dict[str, int] = {}

    def __call__(self, command: Command) -> None:
        words = " ".join(command).removeprefix("/bin/launchctl ")
        verb, *rest = words.split()
        label = rest[-1].rpartition("/")[2]
        if verb == "print":
            self.going[label] = self.going.get(label, 0) - 1
            if self.going[label] < 0:
                raise ServiceError("Could not find service")
            return
        self.told.append(words)
        if self.refuse is not None and words.startswith(self.refuse):
            self.refuse = None
            raise ServiceError("launchctl: Input/output error")
        if verb == "bootstrap":
            text = (self.root / f"Library/LaunchDaemons/{label}").read_bytes()
            if label in self.loaded or self.going.get(label, 0) > 0 or plistlib.loads(text)["Label"] != label:
                raise ServiceError("Bootstrap failed: 5")
            self.loaded[label] = text
        elif verb == "bootout":
            if self.loaded.pop(label, None) is None:
                raise ServiceError("Boot-out failed: 3: No such process")
            self.going[label] = 2


@pytest.fixture(scope="module")
def python() -> tuple[PurePosixPath, tuple[int, int, int]]:
    chosen = choose(Path(sys.executable), for_this_system=False)
    return PurePosixPath(chosen.path), chosen.version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "Library/LaunchDaemons").mkdir(parents=True)
    (tmp_path / "var/run").mkdir(parents=True)
    return tmp_path


def plan(
    python: tuple[PurePosixPath, tuple[int, int, int]], *networks: ServiceNetwork, switch: bool = False
) -> Plan:
    return installation(
        "launchd",
        PREFIX,
        (ServiceNetwork(), *networks),
        python=python[0],
        version=python[1],
        payload=running_package(),
        with_vde_switch=switch,
    )


def picture(root: Path) -> dict[str, bytes | str | None]:
    """Every path with what it holds."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in root.rglob("*")
        if "__pycache__" not in path.parts
    }


def test_installed_loaded_and_removed(root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]) -> None:
    before = picture(root)
    launchctl = Launchctl(root)
    install(plan(python, ServiceNetwork("en0")), None, root=root, run=launchctl)
    assert list(launchctl.loaded) == [LABEL, BRIDGED]
    assert launchctl.told[-3:] == [
        f"enable system/{BRIDGED}",
        f"bootstrap system /Library/LaunchDaemons/{BRIDGED}",
        f"kickstart -kp system/{BRIDGED}",
    ]
    program = root / "opt/vde/lib/vde_vmnet/bin/python"
    done = subprocess.run([program, "-I", "-m", "vde_vmnet", "--help"], check=True, capture_output=True)
    assert b"VDESWITCH" in done.stdout

    log = root / "var/run/vde_vmnet.stderr"
    log.write_text("what the daemon said")
    record = read_record(PREFIX, root)
    assert record is not None and record.logs
    uninstall(record, root=root, run=launchctl, stop=True)
    assert not launchctl.loaded and picture(root) == before


def test_an_interrupted_installation_leaves_nothing(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]
) -> None:
    before = picture(root)

    def impatient(command: Command) -> None:
        if "kickstart" in command:
            raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        install(plan(python), None, root=root, run=impatient)
    assert picture(root) == before


@pytest.mark.parametrize(
    "refused", [f"enable system/{LABEL}", "bootstrap system /Library", f"kickstart -kp system/{BRIDGED}"]
)
def test_a_failed_installation_leaves_nothing(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]], refused: str
) -> None:
    before = picture(root)
    launchctl = Launchctl(root)
    launchctl.refuse = refused
    with pytest.raises(ServiceError, match="Input/output error"):
        install(plan(python, ServiceNetwork("en0")), None, root=root, run=launchctl)
    assert not launchctl.loaded and picture(root) == before


def test_a_failed_upgrade_leaves_the_former_one_running(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]
) -> None:
    launchctl = Launchctl(root)
    install(plan(python, ServiceNetwork("en0")), None, root=root, run=launchctl)
    (root / "opt/vde/lib/vde_vmnet/mark").write_text("the former one")
    before, loaded = picture(root), dict(launchctl.loaded)
    launchctl.refuse = f"bootstrap system /Library/LaunchDaemons/{BRIDGED}"
    record = read_record(PREFIX, root)
    changed = plan(python, ServiceNetwork("en0", group="admin"), ServiceNetwork("en5"))
    with pytest.raises(ServiceError):
        install(changed, record, root=root, run=launchctl)
    assert picture(root) == before and launchctl.loaded == loaded


def test_what_an_upgrade_no_longer_has_is_stopped_and_removed(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]
) -> None:
    launchctl = Launchctl(root)
    install(plan(python, switch=True), None, root=root, run=launchctl)
    assert list(launchctl.loaded) == ["io.github.virtualsquare.vde-2.vde_switch.plist", LABEL]
    install(plan(python), read_record(PREFIX, root), root=root, run=launchctl)
    assert list(launchctl.loaded) == [LABEL]
    assert [path.name for path in (root / "Library/LaunchDaemons").iterdir()] == [LABEL]
    assert not list((root / "opt/vde/lib").glob(".*"))


def test_a_package_that_does_not_run_is_not_installed(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]
) -> None:
    before = picture(root)
    broken = plan(python)
    broken.environment.payload.files["vde_vmnet/cli/__init__.py"] = b"raise ImportError('broken on purpose')"
    with pytest.raises(ServiceError, match="broken on purpose"):
        install(broken, None, root=root, run=Launchctl(root))
    assert picture(root) == before


def test_a_killed_installation_is_finished_by_the_next_or_removed(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]
) -> None:
    before = picture(root)
    launchctl = Launchctl(root)
    install(plan(python), None, root=root, run=launchctl)
    # As if killed between building the next environment and swapping it in.
    shutil.copytree(root / "opt/vde/lib/vde_vmnet", root / "opt/vde/lib/.vde_vmnet.new", symlinks=True)
    (root / f"Library/LaunchDaemons/{LABEL}").unlink()
    record = read_record(PREFIX, root)
    install(plan(python), record, root=root, run=launchctl)
    assert (root / f"Library/LaunchDaemons/{LABEL}").exists()
    shutil.copytree(root / "opt/vde/lib/vde_vmnet", root / "opt/vde/lib/.vde_vmnet.old", symlinks=True)
    assert record is not None
    uninstall(record, root=root, run=launchctl, stop=True)
    assert picture(root) == before


def test_killed_while_upgrading_nothing_of_either_is_forgotten(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]
) -> None:
    before = picture(root)
    launchctl = Launchctl(root)
    install(plan(python, switch=True), None, root=root, run=launchctl)
    kept: list[dict[str, bytes | str | None]] = []

    def killed(command: Command) -> None:
        if "bootout" in command and not kept:
            kept.append(picture(root))
        launchctl(command)

    install(plan(python, ServiceNetwork("en0")), read_record(PREFIX, root), root=root, run=killed)
    # As it was at the first bootout: the new files beside those that were to go.
    for name, content in kept[0].items():
        if isinstance(content, bytes) and name.startswith(("Library/", "opt/vde/lib/vde_vmnet.json")):
            (root / name).write_bytes(content)
    record = read_record(PREFIX, root)
    assert record is not None and len(record.services) == 3
    uninstall(record, root=root, run=launchctl, stop=True)
    assert picture(root) == before and not launchctl.loaded


def test_what_others_installed_is_not_overwritten_unasked(
    root: Path, python: tuple[PurePosixPath, tuple[int, int, int]]
) -> None:
    original = root / "opt/vde/bin/vde_vmnet"
    original.parent.mkdir(parents=True)
    original.write_bytes(b"\xcf\xfa\xed\xfe")
    original.chmod(0o755)
    launchctl = Launchctl(root)
    with pytest.raises(ConflictError, match=r"/opt/vde/bin/vde_vmnet.*--replace"):
        install(plan(python), None, root=root, run=launchctl)
    assert not launchctl.told
    before = picture(root)
    launchctl.refuse = "kickstart"
    with pytest.raises(ServiceError):
        install(plan(python), None, root=root, run=launchctl, replace=True)
    assert picture(root) == before and original.stat().st_mode & 0o777 == 0o755
    install(plan(python), None, root=root, run=launchctl, replace=True)
    assert original.read_bytes().startswith(b"#!")


def test_the_command_stages_for_a_mac_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launchctl = Launchctl(tmp_path)
    place = (f"--destdir={tmp_path}", "--prefix=/opt/vde")
    assert install_main([*place, "--bridged=en0", "--with-vde-switch"], manager="launchd", run=launchctl) == 0
    assert not launchctl.told
    assert sorted(path.name for path in (tmp_path / "Library/LaunchDaemons").iterdir()) == [
        BRIDGED,
        LABEL,
        "io.github.virtualsquare.vde-2.vde_switch.bridged.en0.plist",
        "io.github.virtualsquare.vde-2.vde_switch.plist",
    ]
    assert "is installed below /opt/vde in " in capsys.readouterr().out
    services = sorted((tmp_path / "Library/LaunchDaemons").iterdir())
    assert install_main([*place], manager="launchd", run=launchctl) == 0  # an upgrade remembers
    assert sorted((tmp_path / "Library/LaunchDaemons").iterdir()) == services
    assert install_main([*place, "--without-vde-switch"], manager="launchd", run=launchctl) == 0
    assert sorted(path.name for path in (tmp_path / "Library/LaunchDaemons").iterdir()) == [BRIDGED, LABEL]
    assert uninstall_main(place, run=launchctl) == 0
    assert not launchctl.told and not list(tmp_path.iterdir())
