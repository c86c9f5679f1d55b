"""The sockets beside VDESWITCH: command line to model."""

from pathlib import Path

import pytest

from vde_vmnet.config import arguments
from vde_vmnet.config.model import DaemonConfig, network_id
from vde_vmnet.errors import ConfigurationError


def parse(*argv: str) -> DaemonConfig:
    options = arguments.build_parser().parse_args(["--vmnet-gateway=192.168.105.1", *argv])
    return arguments.parse(options, debug=False, warn=pytest.fail)


def test_without_any_there_are_none() -> None:
    config = parse("/x")
    assert config.listeners.stream == () and not config.switch.absent


def test_each_path_is_kept_in_order_and_made_absolute() -> None:
    config = parse("--stream=/no/where/../a", "/x", "--stream", "b")
    assert config.listeners.stream == (Path("/no/a"), Path.cwd() / "b")
    assert config.switch.directory == Path("/x")


def test_vdeswitch_is_needed_only_when_there_is_nothing_else() -> None:
    config = parse("--stream=/a", "--stream=/b", "--vde-group=nogroup", "--vde-mode=700")
    assert config.switch.absent
    assert (config.switch.group, config.switch.mode) == ("nogroup", 0o700)
    assert network_id(config.switch.key) == network_id(Path("/a"))
    with pytest.raises(ConfigurationError, match="No VDESWITCH"):
        parse()


def test_datagram_sockets_are_kept_in_order_and_name_the_network_after_streams() -> None:
    config = parse("--dgram=/b", "--dgram=/a")
    assert config.listeners.dgram == (Path("/b"), Path("/a"))
    assert config.switch.key == Path("/b")
    assert parse("--dgram=/b", "--stream=/c").switch.key == Path("/c")


def test_those_for_offloading_guests_are_known_among_the_others() -> None:
    listeners = parse("--dgram-offload=/b", "--dgram=/a", "--stream-offload=/c", "--stream=/d").listeners
    assert listeners.dgram == (Path("/a"), Path("/b"))
    assert listeners.stream == (Path("/d"), Path("/c"))
    assert listeners.offload == {Path("/b"), Path("/c")}
    assert parse("--dgram-offload=/b").switch.key == Path("/b")


def test_vhost_user_sockets_come_last() -> None:
    config = parse("--vhost-user=/b", "--vhost-user=/a")
    assert config.listeners.vhost_user == (Path("/b"), Path("/a"))
    assert (config.switch.key, config.listeners.count) == (Path("/b"), 2)
    assert parse("--vhost-user=/b", "--dgram=/c").switch.key == Path("/c")


def test_a_descriptor_is_enough_and_names_the_network_for_its_time() -> None:
    config = parse("--fd=3", "--fd=0")
    assert config.switch.absent and config.listeners.fd == 0
    assert network_id(parse("--fd=3").switch.key) != network_id(config.switch.key)
    assert parse("--fd=3", "--stream=/a").switch.key == Path("/a")
    assert parse("/x").listeners.fd is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--stream=", "/x"), "names no socket"),
        (("--stream=/a/", "/x"), "names no socket"),
        (("--stream=/a", "--stream=//a"), "given twice"),
        (("--stream=/a", "--vde-switch=serve"), "requires VDESWITCH"),
        (("--dgram=/a", "--dgram=/a"), "given twice"),
        (("--dgram=/a", "--stream=/a"), "is also a --stream"),
        (("--dgram-offload=/a", "--dgram=/a"), "is also a --dgram"),
        (("--dgram-offload=/a", "--stream-offload=/a"), "is also a --stream-offload"),
        (("--stream-offload=/a", "--stream-offload=/a"), "given twice"),
        (("--vhost-user=/a", "--dgram=/a"), "is also a --dgram"),
        (("--vhost-user=/a", "--vhost-user=/a"), "given twice"),
        (("--vhost-user=", "/x"), "names no socket"),
        (("--dgram=",), "names no socket"),
        (("--stream=/a", "--vde-ptp=dgram"), "requires VDESWITCH"),
        (("--fd=x",), "is not the number"),
        (("--fd=-1",), "is not the number"),
        (("--fd=",), "is not the number"),
        (("--fd=2",), "own words"),
        (("--stream=/a", "--vde-mode=070"), "locks out"),
    ],
)
def test_what_cannot_be_meant_is_refused(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse(*argv)
