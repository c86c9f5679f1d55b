"""``--control``, ``--metrics`` and the log's options."""

from __future__ import annotations

from pathlib import Path

import pytest

from vde_vmnet.config import arguments
from vde_vmnet.config.model import ControlConfig, DaemonConfig, LogConfig
from vde_vmnet.errors import ConfigurationError


def parse(*argv: str, debug: bool = False) -> DaemonConfig:
    options = arguments.build_parser().parse_args([*argv, "--backend=none", "/run/vde.ctl"])
    return arguments.parse(options, debug=debug, warn=pytest.fail)


def test_what_is_there_unasked() -> None:
    assert parse().control == ControlConfig(enabled=True, path=None, group=None, metrics=None)
    assert parse().log == LogConfig(level="info", json=False)
    assert parse(debug=True).log.level == "debug"


def test_what_was_asked_for() -> None:
    found = parse("--control=/run/x.sock", "--control-group=adm", "--metrics=127.0.0.1:9100").control
    assert found == ControlConfig(True, Path("/run/x.sock"), "adm", ("127.0.0.1", 9100))
    assert parse("--metrics=[::1]:0").control.metrics == ("::1", 0)
    assert not parse("--control=none").control.enabled
    assert parse("--log-format=json", "--log-level=error", debug=True).log == LogConfig("error", json=True)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--control=", "needs a path, or none"),
        ("--metrics=0.0.0.0:9100", "is not a loopback address"),
        ("--metrics=192.168.1.1:9100", "is not a loopback address"),
        ("--metrics=[::]:9100", "is not a loopback address"),
        ("--metrics=[::ffff:127.0.0.1]:9100", "is not a loopback address"),
        ("--metrics=localhost:9100", "is not an address and a port"),
        ("--metrics=9100", "is not an address and a port"),
        ("--metrics=127.0.0.1:65536", "is not an address and a port"),
        ("--metrics=127.0.0.1:-1", "is not an address and a port"),
        ("--log-format=xml", 'Unknown --log-format "xml"'),
        ("--log-level=loud", 'Unknown --log-level "loud"'),
    ],
)
def test_what_cannot_be_meant_is_refused(option: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(option)
    assert words in str(caught.value)
    assert option.partition("=")[0] in str(caught.value)


def test_a_group_of_no_socket_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no effect with --control=none"):
        parse("--control=none", "--control-group=adm")
