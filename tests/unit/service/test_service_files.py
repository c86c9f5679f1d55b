"""Property lists, units and sudoers rules: what they say, field by field."""

import plistlib
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any

import pytest

from vde_vmnet.errors import ConfigurationError
from vde_vmnet.service import launchd, systemd
from vde_vmnet.service.networks import ServiceNetwork, check_plain
from vde_vmnet.service.sudoers import daemon_sudoers

PREFIX = PurePosixPath("/opt/vde")


def parsed(network: ServiceNetwork, **options: Any) -> list[dict[str, Any]]:
    return [
        plistlib.loads(service.render().encode())
        for service in launchd.property_lists(network, PREFIX, **options)
    ]


def test_the_shared_property_list_is_the_original_s() -> None:
    assert parsed(ServiceNetwork()) == [
        {
            "Label": "io.github.lima-vm.vde_vmnet.plist",
            "Program": "/opt/vde/bin/vde_vmnet",
            "ProgramArguments": [
                "/opt/vde/bin/vde_vmnet",
                "--vmnet-gateway=192.168.105.1",
                "/var/run/vde.ctl",
            ],
            "StandardErrorPath": "/var/run/vde_vmnet.stderr",
            "StandardOutPath": "/var/run/vde_vmnet.stdout",
            "RunAtLoad": True,
            "UserName": "root",
            "KeepAlive": True,
            "ProcessType": "Interactive",
        }
    ]


def test_a_bridged_property_list_has_the_interface_wherever_the_original_has_it() -> None:
    (service,) = parsed(ServiceNetwork("en7"))
    assert service["Label"] == "io.github.lima-vm.vde_vmnet.bridged.en7.plist"
    assert service["ProgramArguments"][1:] == [
        "--vmnet-mode=bridged",
        "--vmnet-interface=en7",
        "/var/run/vde.bridged.en7.ctl",
    ]
    assert service["StandardErrorPath"] == "/var/run/vde_vmnet.bridged.en7.stderr"


@pytest.mark.parametrize("interface", [None, "en0"])
def test_with_vde_switch_the_switch_comes_first_and_the_daemon_plugs_in(interface: str | None) -> None:
    suffix = f".bridged.{interface}" if interface else ""
    switch, daemon = parsed(ServiceNetwork(interface), with_vde_switch=True)
    assert switch["Label"] == f"io.github.virtualsquare.vde-2.vde_switch{suffix}.plist"
    assert switch["ProgramArguments"] == [
        "/opt/vde/bin/vde_switch",
        *("--sock", f"/var/run/vde{suffix}.ctl", "--pidfile", f"/var/run/vde{suffix}.pid"),
        *("--group", "staff", "--dirmode", "0770", "--nostdin"),
    ]
    assert (switch["UserName"], switch["GroupName"]) == ("daemon", "staff")
    assert daemon["ProgramArguments"][1:3] == ["--vde-switch=plug", "--user=daemon"]
    assert daemon["KeepAlive"] == {"PathState": {f"/var/run/vde{suffix}.pid": True}}


def test_a_file_is_named_after_its_label_and_launchctl_gets_both() -> None:
    (service,) = launchd.property_lists(ServiceNetwork(), PREFIX)
    assert str(service.path) == "/Library/LaunchDaemons/io.github.lima-vm.vde_vmnet.plist"
    assert [command[1] for command in launchd.start_commands(service.path)] == [
        "enable",
        "bootstrap",
        "kickstart",
    ]
    assert launchd.stop_command(service.path)[1:] == ("bootout", f"system/{service.label}")


def directives(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines if not line.startswith("DeviceAllow"))


def test_the_unit_runs_the_same_command_line() -> None:
    network = ServiceNetwork(gateway=IPv4Address("10.3.0.1"), group="kvm")
    unit = directives(systemd.unit_text(network, PREFIX))
    assert unit["ExecStart"] == (
        "/opt/vde/bin/vde_vmnet --vde-group=kvm --vmnet-gateway=10.3.0.1 /var/run/vde.ctl"
    )
    assert unit["KillMode"] == "mixed", "the keeper ends its processes itself"
    assert "CAP_SYS_ADMIN" not in unit["CapabilityBoundingSet"]


def test_bridged_networks_are_instances_of_one_template() -> None:
    one, other = ServiceNetwork("eth0"), ServiceNetwork("br-lan.5")
    assert systemd.unit_name(one) == "vde_vmnet@eth0.service"
    assert systemd.unit_file(one) == systemd.unit_file(other)
    assert systemd.unit_text(one, PREFIX) == systemd.unit_text(other, PREFIX)
    assert directives(systemd.unit_text(one, PREFIX))["ExecStart"] == (
        "/opt/vde/bin/vde_vmnet --vmnet-mode=bridged --vmnet-interface=%i /var/run/vde.bridged.%i.ctl"
    )


def test_sudoers_rules_are_exact_command_lines_without_environment() -> None:
    text = daemon_sudoers("/p", (ServiceNetwork(), ServiceNetwork("en0")), group="staff", root_group="wheel")
    assert [line for line in text.splitlines() if line.startswith("%")] == [
        "%staff ALL=(root:wheel) NOPASSWD:NOSETENV: /p --vmnet-gateway=192.168.105.1 /var/run/vde.ctl",
        (
            "%staff ALL=(root:wheel) NOPASSWD:NOSETENV: /p --vmnet-mode=bridged --vmnet-interface=en0"
            " /var/run/vde.bridged.en0.ctl"
        ),
    ]


@pytest.mark.parametrize("name", ["", "../x", "en0/..", "en 0", "a" * 16, "-v", "%i", "en0\n"])
def test_an_interface_is_a_name_and_nothing_else(name: str) -> None:
    with pytest.raises(ConfigurationError, match="--bridged"):
        ServiceNetwork(name)


@pytest.mark.parametrize("text", ["", "a b", "a'b", "a%b", "a:b", "a,b", "a\nb", "ä", "$x"])
def test_what_service_files_cannot_carry_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--prefix"):
        check_plain("--prefix", text)
