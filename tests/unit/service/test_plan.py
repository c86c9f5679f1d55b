"""The plan of an installation and its record: complete, and the same after a way through text."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from vde_vmnet.errors import InternalError
from vde_vmnet.service.networks import ServiceNetwork
from vde_vmnet.service.plan import Payload, Plan, describe, installation, start_commands, stop_commands
from vde_vmnet.service.record import Record, describe_removal

NETWORKS = (ServiceNetwork(), ServiceNetwork("en0"), ServiceNetwork("en1"))


def plan(manager: str, *, start: bool = True) -> Plan:
    return installation(
        manager,
        PurePosixPath("/opt/vde"),
        NETWORKS,
        python=PurePosixPath("/usr/bin/python3.11"),
        version=(3, 11, 2),
        payload=Payload("1.2.3", {"vde_vmnet/__init__.py": b""}, {"vde_vmnet": "vde_vmnet.cli:main"}),
        start=start,
    )


def test_the_files_are_the_commands_and_one_for_each_service() -> None:
    assert [str(file.path) for file in plan("launchd").files] == [
        "/opt/vde/bin/vde_vmnet",
        "/Library/LaunchDaemons/io.github.lima-vm.vde_vmnet.plist",
        "/Library/LaunchDaemons/io.github.lima-vm.vde_vmnet.bridged.en0.plist",
        "/Library/LaunchDaemons/io.github.lima-vm.vde_vmnet.bridged.en1.plist",
    ]
    assert [str(file.path) for file in plan("systemd").files] == [
        "/opt/vde/bin/vde_vmnet",
        "/etc/systemd/system/vde_vmnet.service",
        "/etc/systemd/system/vde_vmnet@.service",
    ]
    assert plan("systemd").services == (
        "vde_vmnet.service",
        "vde_vmnet@en0.service",
        "vde_vmnet@en1.service",
    )


def test_a_command_runs_on_the_environment_and_nothing_of_the_caller_s() -> None:
    launcher = plan("launchd").files[0]
    assert launcher.mode == 0o755
    assert launcher.text.startswith("#!/opt/vde/lib/vde_vmnet/bin/python -I\n")
    assert "from vde_vmnet.cli import main" in launcher.text


@pytest.mark.parametrize("manager", ["launchd", "systemd"])
def test_folders_come_parents_first(manager: str) -> None:
    folders = plan(manager).folders
    for position, folder in enumerate(folders):
        assert folder == folder.parent or folder.parent in folders[:position]


@pytest.mark.parametrize("manager", ["launchd", "systemd"])
def test_the_dry_run_shows_every_file_and_every_command(manager: str) -> None:
    shown = describe(plan(manager))
    for file in plan(manager).files:
        assert f"File {file.path}, mode {file.mode:04o}:" in shown
        assert all(f"  | {line}".rstrip() in shown for line in file.text.splitlines())
    for command in start_commands(manager, plan(manager).services):
        assert " ".join(command) in shown
    assert "nothing" in describe(plan(manager, start=False))


@pytest.mark.parametrize("manager", ["launchd", "systemd"])
def test_a_record_is_read_as_it_was_written(manager: str) -> None:
    record = Record.of(plan(manager), folders=("/opt/vde", "/opt/vde/bin"), staged=False)
    assert Record.parse(record.render()) == record
    shown = describe_removal(record, start=True)
    assert all(path in shown for path in (*record.files, *record.logs, *record.folders, record.environment))
    assert all(" ".join(command) in shown for command in stop_commands(manager, record.services))


def test_a_second_installation_remembers_what_the_first_one_made() -> None:
    first = Record.of(plan("launchd"), folders=("/opt/vde",), staged=False)
    smaller = replace(plan("launchd"), logs=(), services=())
    second = Record.of(smaller, folders=(), staged=False, previous=first)
    assert second.folders == ("/opt/vde",) and second.logs == first.logs and second.services == ()


@pytest.mark.parametrize("path", ["../etc/passwd", "/opt/../../etc/passwd", ""])
def test_a_record_that_leads_elsewhere_is_refused(path: str) -> None:
    record = replace(Record.of(plan("launchd"), folders=(), staged=True), files=(path,))
    with pytest.raises(InternalError, match="is not a path"):
        Record.parse(record.render())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "version": "1"}'])
def test_a_damaged_record_is_said_to_be_one(text: str) -> None:
    with pytest.raises(InternalError, match="record of the installation"):
        Record.parse(text)
