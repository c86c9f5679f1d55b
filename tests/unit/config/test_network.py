"""--vmnet-mtu, --vmnet-enable-isolation, --forward, --start-timeout: text to values, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from vde_vmnet.addresses import Forward
from vde_vmnet.config import arguments
from vde_vmnet.config.model import Backend, DaemonConfig
from vde_vmnet.errors import ConfigurationError

GATEWAY = "--vmnet-gateway=192.168.105.1"


def parse(*argv: str) -> DaemonConfig:
    return arguments.parse(
        arguments.build_parser().parse_args([*argv, "/tmp/sw"]), debug=False, warn=lambda _: None
    )


def test_defaults() -> None:
    config = parse(GATEWAY)
    assert (config.uplink.mtu, config.uplink.isolation, config.uplink.forwards) == (None, False, ())
    assert config.uplink.start_timeout == 30
    assert not config.json
    assert config.uplink.network_identifier is None


def test_given() -> None:
    config = parse(
        *(GATEWAY, "--vmnet-mtu=9000", "--vmnet-enable-isolation", "--forward=8080:192.168.105.2:80"),
        *("--forward=udp:127.0.0.1:53:192.168.105.2:5353", "--start-timeout=2.5", "--json", "--backend=vmnet"),
    )
    guest = IPv4Address("192.168.105.2")
    assert config.uplink.forwards == (
        Forward("tcp", None, 8080, guest, 80),
        Forward("udp", IPv4Address("127.0.0.1"), 53, guest, 5353),
    )
    assert [str(one) for one in config.uplink.forwards] == [
        "tcp:8080:192.168.105.2:80",
        "udp:127.0.0.1:53:192.168.105.2:5353",
    ]
    assert (config.uplink.mtu, config.uplink.isolation, config.uplink.start_timeout) == (9000, True, 2.5)
    assert config.json and config.backend is Backend.VMNET


def test_a_guest_to_forward_to_may_be_named() -> None:
    config = parse(
        *(GATEWAY, "--reserve=52:54:00:00:00:01=192.168.105.9,web", "--forward=1:web:80", "--forward=2:db:80"),
        *("--forward=udp:10.0.0.1:3:52:54:00:00:00:02:80", "--forward=4:52:54:00:00:00:01:80"),
    )
    # One whose address is reserved is known already.
    assert [str(one) for one in config.uplink.forwards] == ["tcp:1:192.168.105.9:80", "tcp:4:192.168.105.9:80"]
    assert [str(one) for one in config.uplink.named_forwards] == [
        "tcp:2:db:80",
        "udp:10.0.0.1:3:52:54:00:00:00:02:80",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--vmnet-mtu=575"], "from 576 to 16384"),
        (["--vmnet-mtu=16385"], "from 576 to 16384"),
        (["--vmnet-mtu=-1"], "from 576 to 16384"),
        (["--vmnet-mtu=²"], "from 576 to 16384"),
        (["--vmnet-mtu=1000", "--vmnet-nat66-prefix=fd00::"], r"from 1280 .*IPv6 needs 1280"),
        (["--vmnet-mode=bridged", "--vmnet-interface=en0", "--vmnet-mtu=1500"], "conflicts with --vmnet-mtu"),
        (["--vmnet-mode=bridged", "--vmnet-interface=en0", "--vmnet-enable-isolation"], "conflicts with"),
        (["--vmnet-mode=host", "--forward=1:10.0.0.2:1"], "--forward requires --vmnet-mode=shared"),
        (["--forward=80"], "not of the form"),
        (["--forward=sctp:1:10.0.0.2:1"], 'is not an IPv4 address|"sctp" is not'),
        (["--forward=1:2:3:4:5:6"], "not of the form"),
        (["--forward=0:10.0.0.2:1"], '"0" is not a port'),
        (["--forward=1:10.0.0.2:65536"], '"65536" is not a port'),
        (["--forward=1:10.0.0:80"], '"10.0.0" is not an IPv4 address'),
        (["--forward=1:my_web:80"], '"my_web" is not an address, a MAC address or the name'),
        (["--forward=1:53:54:00:00:00:01:80"], "multicast"),
        (["--forward=1:10.0.0.2:1", "--forward=tcp:1:10.0.0.3:1"], "repeats port 1 of tcp"),
        (["--start-timeout=0"], "not a number of seconds"),
        (["--start-timeout=nan"], "not a number of seconds"),
        (["--start-timeout=soon"], "not a number of seconds"),
    ],
)
def test_refused(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse(*argv)


def test_udp_and_tcp_of_one_port_are_two() -> None:
    assert len(parse("--forward=udp:1:10.0.0.2:1", "--forward=tcp:1:10.0.0.2:1").uplink.forwards) == 2
