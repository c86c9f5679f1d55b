"""What commands take, as completion scripts and manual pages have it."""

from __future__ import annotations

import argparse

import pytest

from vde_vmnet.cli import completion, manual, share
from vde_vmnet.cli.grammar import Command, Operand, describe
from vde_vmnet.cli.verbs import VERBS
from vde_vmnet.config.arguments import Parser
from vde_vmnet.errors import ConfigurationError


def test_every_command_can_be_described() -> None:
    found = {command.name: command for command in completion.commands()}
    assert set(found) == {"", *VERBS}
    assert {option.long for option in found["run"].options} >= {"--network", "--vmnet-gateway", "--backend"}
    assert not {"--pidfile", "--fd"} & {option.long for option in found["run"].options}
    assert found["ports"].operands[0].kind == "network"
    assert found["kick"].operands[0].kind == "port"
    assert found["port"].operands[0].words == ("down", "up")


@pytest.mark.parametrize(
    ("metavar", "kind"),
    [
        ("(a|b-c)", "words"),
        ("(PATH|none)", "file"),
        ("FILE", "file"),
        ("DIR", "directory"),
        ("VDESWITCH", "network"),
        ("MAC", ""),
    ],
)
def test_what_a_shell_offers_for_a_value(metavar: str, kind: str) -> None:
    assert Operand(metavar).kind == kind


def parser() -> argparse.ArgumentParser:
    built = Parser(
        prog="x",
        usage="x [OPTION]...",
        description="One.\n\nTwo.",
        epilog="Table:\n  .first\n  'second\n\nLast words. Exit status: 0 well;\n1 not.\n",
        add_help=False,
    )
    built.add_argument("-n", "--number", metavar="N", default="5", help="how many (default: %(default)s)")
    built.add_argument("--hidden", help=argparse.SUPPRESS)
    return built


def test_a_manual_page() -> None:
    page = manual.render(describe("x", "do x-y", parser()), parser(), [])
    assert "vde_vmnet\\-x \\- do x\\-y" in page
    assert ".TP\n\\fB\\-n\\fR, \\fB\\-\\-number\\fR=\\fIN\\fR\nhow many (default: 5)\n" in page
    assert ".nf\nTable:\n  .first\n  'second\n.fi" in page
    assert ".PP\nLast words.\n.SH EXIT STATUS\n0 well; 1 not.\n" in page
    assert "hidden" not in page
    # A request stands at the start of a line: there is none but ours.
    assert manual.render(
        Command("", ".x", (), ()), Parser(prog="x", description=".so evil"), [Command("y", "", (), ())]
    )


def test_no_line_of_a_page_is_a_request_by_accident() -> None:
    known = (".TH", ".SH", ".B ", ".BR", ".PP", ".TP", ".nf", ".fi")
    for name, text in share.files().items():
        if name.startswith("man/"):
            assert all(line.startswith(known) for line in text.splitlines() if line.startswith((".", "'"))), (
                name
            )


def test_wrong_shells() -> None:
    for argv in ((), ("tcsh",)):
        with pytest.raises(ConfigurationError, match="bash, zsh, fish"):
            completion.main(argv)
