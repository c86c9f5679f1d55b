"""--allow and --deny: what is refused, which rule decides, what holds without any."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from vde_vmnet.config.access import allows, by_precedence, parse, with_defaults
from vde_vmnet.config.arguments import build_parser
from vde_vmnet.errors import ConfigurationError


def rules(*argv: str) -> list[str]:
    """The rules in the order in which they decide, as text."""
    found = parse(build_parser().parse_args([*argv, "/x"]))
    return [f"{'+' if one.allow else '-'}{one.network}" for one in by_precedence(found)]


def reaches(address: str, *argv: str) -> bool:
    return allows(with_defaults(parse(build_parser().parse_args([*argv, "/x"]))), ip_address(address))


def test_the_most_specific_rule_decides() -> None:
    assert rules("--allow=10.1.0.0/16", "--deny=10.0.0.0/8", "--deny=10.1.2.3") == [
        "-10.1.2.3/32",
        "+10.1.0.0/16",
        "-10.0.0.0/8",
    ]


@pytest.mark.parametrize(
    ("argv", "reached", "unreached"),
    [
        ((), ("10.0.0.1", "2001:db8::1"), ("127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::")),
        (("--allow=127.0.0.1",), ("127.0.0.1",), ("127.0.0.2", "::1")),
        (("--allow=127.0.0.0/8",), ("127.0.0.1", "127.0.0.2"), ("::1",)),
        (("--allow=::1",), ("::1",), ("127.0.0.1",)),
        # Allowing everything is not asking for the host's own services.
        (("--allow=0.0.0.0/0",), ("10.0.0.1",), ("127.0.0.1",)),
        (("--deny=0.0.0.0/0", "--allow=10.0.0.0/8"), ("10.0.0.1", "2001:db8::1"), ("8.8.8.8",)),
    ],
)
def test_what_is_reached(argv: tuple[str, ...], reached: tuple[str, ...], unreached: tuple[str, ...]) -> None:
    assert all(reaches(address, *argv) for address in reached)
    assert not any(reaches(address, *argv) for address in unreached)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--allow=bogus",), '--allow "bogus" is not a network'),
        (("--deny=10.0.0.1/8",), r'--deny "10.0.0.1/8" has bits set.*Write 10.0.0.0/8, or 10.0.0.1'),
        (("--allow=10.0.0.0/8", "--deny=10.0.0.0/8"), "both name 10.0.0.0/8"),
        (tuple(f"--deny=10.{number // 256}.{number % 256}.0/24" for number in range(257)), "at most 256"),
    ],
)
def test_refused(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        rules(*argv)
