"""Command line to model: defaults, the original's checks and messages, ours."""

from ipaddress import IPv4Address, IPv6Network
from pathlib import Path

import pytest

from vde_vmnet.config import arguments
from vde_vmnet.config.model import Backend, DaemonConfig, Mode, SwitchRole, network_id
from vde_vmnet.errors import ConfigurationError

GATEWAY = "--vmnet-gateway=192.168.105.1"


def parse(*argv: str) -> tuple[DaemonConfig, list[str]]:
    warnings: list[str] = []
    options = arguments.build_parser().parse_args(argv)
    return arguments.parse(options, debug=False, warn=warnings.append), warnings


def test_defaults_are_the_original_s() -> None:
    config, warnings = parse("/no/where/vde.ctl")
    assert config.switch.directory == Path("/no/where/vde.ctl")
    assert (config.switch.group, config.switch.mode) == (None, 0o770)
    assert (config.uplink.mode, config.uplink.ipv4, config.uplink.dhcp) == (Mode.SHARED, None, True)
    assert (config.backend, config.pidfile, config.user) == (Backend.AUTO, None, None)
    assert warnings == [
        "--vmnet-gateway=IP should be explicitly specified to avoid conflicting with other applications"
    ]


def test_gateway_brings_range_and_mask() -> None:
    config, warnings = parse(GATEWAY, "/x")
    plan = config.uplink.ipv4
    assert plan is not None and str(plan.network) == "192.168.105.0/24"
    assert plan.dhcp_end == IPv4Address("192.168.105.254")
    assert warnings == []


@pytest.mark.parametrize(
    "argv",
    [
        ("--pidfile=/tmp/p", "/x"),
        ("--pidfile", "/tmp/p", "/x"),
        ("-p", "/tmp/p", "/x"),
        ("-p/tmp/p", "/x"),
        ("/x", "-p", "/tmp/p"),
        ("--pid=/tmp/p", "/x"),
        ("-p", "/tmp/other", "-p", "/tmp/p", "/x"),
    ],
)
def test_pidfile_in_every_form_getopt_takes(argv: tuple[str, ...]) -> None:
    config, _ = parse(*argv)
    assert config.pidfile == Path("/tmp/p")
    assert config.switch.directory == Path("/x")


def test_everything_else_is_taken_over() -> None:
    config, warnings = parse(
        GATEWAY,
        "--vmnet-dhcp-end=192.168.105.100",
        "--vmnet-mask=255.255.255.0",
        "--vmnet-mode=host",
        "--vmnet-interface-id=6f0a7a4e-0000-4000-8000-000000000001",
        "--vmnet-nat66-prefix=fd12:3456:789a::",
        "--reserve=52:54:00:00:00:01=192.168.105.200,web",
        "--reserve=52:54:00:00:00:02=192.168.105.201",
        "--vmnet-disable-dhcp",
        "--vde-group=nogroup",
        "--vde-mode=0700",
        "--user=nobody",
        "--backend=linux",
        "/x",
    )
    uplink = config.uplink
    assert uplink.mode is Mode.HOST and not uplink.dhcp and len(uplink.reservations) == 2
    assert uplink.nat66_prefix == IPv6Network("fd12:3456:789a::/64")
    assert (config.switch.group, config.switch.mode, config.user) == ("nogroup", 0o700, "nobody")
    assert config.backend is Backend.LINUX
    assert warnings == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "No VDESWITCH"),
        (("/x", "/y", "/x"), 'VDESWITCH "/x" was given twice'),
        (("/x[1]", "/x[2]"), 'VDESWITCH "/x" was given twice'),
        (tuple(f"/x{n}" for n in range(65)), "65 VDESWITCHes.* at most 64"),
        (("--vde-switch=plug", "/x[]", "/y[]"), "point-to-point mode, where nobody is a switch"),
        (("--wrong", "/x"), "Unrecognized arguments: --wrong"),
        (("--vmnet-mode=nat", "/x"), 'Unknown vmnet mode "nat".*host, shared, bridged'),
        (("--vmnet-mode=bridged", "/x"), 'vmnet mode "bridged" requires --vmnet-interface'),
        (("--vmnet-mode=bridged", "--vmnet-interface=e", GATEWAY, "/x"), "conflicts with --vmnet-gateway"),
        (("--vmnet-mode=bridged", "--vmnet-interface=e", "--vmnet-nat66-prefix=fd00::", "/x"), "nat66-prefix"),
        (
            ("--vmnet-mode=bridged", "--vmnet-interface=e", "--reserve=52:54:00:00:00:01=10.0.0.2", "/x"),
            "conflicts with --reserve",
        ),
        (("--vmnet-dhcp-end=192.168.105.9", "/x"), "--vmnet-dhcp-end=IP requires --vmnet-gateway=IP"),
        (("--vmnet-mask=255.255.255.0", "/x"), "--vmnet-mask=MASK requires --vmnet-gateway=IP"),
        (("--vmnet-gateway=192.168.105", "/x"), 'invalid address "192.168.105" .* --vmnet-gateway'),
        ((GATEWAY, "--vmnet-dhcp-end=x", "/x"), 'invalid address "x" .* --vmnet-dhcp-end'),
        ((GATEWAY, "--vmnet-dhcp-end=10.0.0.1", "/x"), "outside the subnet"),
        (("--vmnet-interface-id=1", "/x"), 'Failed to parse UUID "1" of --vmnet-interface-id'),
        (("--vmnet-network-identifier=1", "/x"), 'Failed to parse UUID "1"'),
        (
            ("--vmnet-network-identifier=6f0a7a4e-0000-4000-8000-000000000001", "/x"),
            "requires --vmnet-mode=host",
        ),
        (("--vmnet-nat66-prefix=2001:db8::", "/x"), "not a ULA"),
        (("--vmnet-nat66-prefix=fd00::1", "/x"), "bits set"),
        (("--vmnet-nat66-prefix=fd00::/48", "/x"), "must be a /64"),
        (("--vmnet-nat66-prefix=bogus", "/x"), 'invalid prefix "bogus"'),
        (("--reserve=bogus", "/x"), "--reserve: .*MAC=IP"),
        (("--vde-mode=888", "/x"), "--vde-mode"),
        (("--vde-mode=070", "/x"), "locks out"),
        (("--backend=bsd", "/x"), 'Unknown --backend "bsd".*auto, linux, vmnet, user, none'),
        (("--pidfile", "/x", "--vmnet-mode"), "--vmnet-mode: expected one argument"),
        (("--vde-switch=plug", "/x[]"), "point-to-point mode, where nobody is a switch"),
        (("--vde-ptp=seqpacket", "/x"), "has no effect on a switch directory"),
        (("--vde-ptp=stream", "/x[]"), "Unknown --vde-ptp"),
        (("--mgmtmode=660", "/x"), "--mgmtmode requires --mgmt=PATH"),
        (("--mgmt=/m", "--mgmtmode=9", "/x"), '--mgmtmode "9" is not an octal mode'),
        (("--vde-switch=join", "/x"), 'Unknown --vde-switch "join".*auto, plug, serve'),
        (("--vde-switch=serve", "/x[3]"), "asks a switch for a port"),
        (("/x[16777216]",), "port above 16777215"),
        (("--busy-poll=-1", "/x"), '--busy-poll "-1" is not a number of microseconds from 0 to 1000'),
        (("--busy-poll=1001", "/x"), '--busy-poll "1001" is not a number of microseconds'),
    ],
)
def test_refused_with_the_option_at_fault(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){message}") as refused:
        parse(*argv)
    assert refused.value.exit_code == 1


@pytest.mark.parametrize(
    ("argv", "warning"),
    [
        ((GATEWAY, "--vmnet-interface=eth0", "/x"), "no effect without --vmnet-mode=bridged"),
        (("--backend=none", "--vmnet-mode=host", "/x"), "have no effect"),
        (
            (
                GATEWAY,
                "--vmnet-mode=host",
                "--vmnet-network-identifier=6f0a7a4e-0000-4000-8000-000000000001",
                "/x",
            ),
            "turns DHCP off",
        ),
    ],
)
def test_allowed_but_rarely_meant(argv: tuple[str, ...], warning: str) -> None:
    _, warnings = parse(*argv)
    assert any(warning in text for text in warnings)


@pytest.mark.parametrize(
    ("text", "directory", "port"),
    [
        ("/x", "/x", None),
        ("/x[3]", "/x", 3),
        ("/x[0]", "/x", 0),
        ("/x[y]", "/x[y]", None),
        ("/x[3]/y", "/x[3]/y", None),
        ("[3]", str(Path.cwd() / "[3]"), None),
    ],
)
def test_a_port_of_an_existing_switch(text: str, directory: str, port: int | None) -> None:
    config, _ = parse(GATEWAY, text)
    assert (config.switch.directory, config.switch.port) == (Path(directory), port)
    assert config.switch.role is SwitchRole.AUTO
    assert parse(GATEWAY, "--vde-switch=plug", text)[0].switch.role is SwitchRole.PLUG


def test_plugs_in_different_ports_of_a_switch_are_different_networks() -> None:
    keys = {parse(GATEWAY, text)[0].switch.key for text in ("/x", "/x[1]", "/x[2]")}
    assert len(keys) == len({network_id(key) for key in keys}) == 3


def test_several_switches_are_one_network_named_after_the_first() -> None:
    config, _ = parse("/x", GATEWAY, "/y[2]", "--vde-switch=plug", "/z[]", "--vde-group=nogroup")
    assert [one.directory for one in config.switches] == [Path("/x"), Path("/y"), Path("/z")]
    assert [one.port for one in config.switches] == [None, 2, None]
    assert [one.point_to_point for one in config.switches] == [False, False, True]
    assert {one.group for one in config.switches} == {"nogroup"}
    assert config.switches[0].role is SwitchRole.PLUG
    assert network_id(config.switch.key) == network_id(Path("/x"))


@pytest.mark.parametrize(
    ("argv", "alone"), [(("/x",), True), (("/x", "/y"), False), (("/x", "--stream=/s"), False)]
)
def test_a_single_switch_has_nothing_to_plug_in_but_an_uplink(argv: tuple[str, ...], alone: bool) -> None:
    assert parse(GATEWAY, *argv)[0].is_alone is alone


def test_the_console_is_for_its_owner_alone_unless_asked() -> None:
    console = parse(GATEWAY, "--mgmt=/m", "/x")[0].console
    assert console is not None and (console.path, console.mode, console.group) == (Path("/m"), 0o600, None)
    console = parse(GATEWAY, "--mgmt=/m", "--mgmtmode=660", "--mgmtgroup=vde", "/x")[0].console
    assert console is not None and (console.mode, console.group) == (0o660, "vde")


def test_isolated_switch_needs_no_gateway_warning() -> None:
    assert parse("--backend=none", "/x")[1] == []


def test_a_network_s_name_depends_on_its_directory_alone() -> None:
    assert network_id(Path("/a")) == network_id(Path("/a")) != network_id(Path("/b"))
    assert len(network_id(Path("/a"))) == 8
