"""Manual pages from the help of each command: man(7) text. Pure."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from vde_vmnet.cli.grammar import Command, Option

__all__ = ["file_name", "render"]

_EXIT = "Exit status: "


def file_name(command: Command) -> str:
    """``vde_vmnet-status.1``."""
    return f"{_title(command)}.1"


def _title(command: Command) -> str:
    return f"vde_vmnet-{command.name}" if command.name else "vde_vmnet"


def render(command: Command, parser: argparse.ArgumentParser, others: list[Command]) -> str:
    """``others``: all commands, which the page of the program itself refers to."""
    title = _title(command)
    lines = [
        f'.TH {_text(title.upper())} 1 "" vde_vmnet "vde_vmnet"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(command.says)}",
        ".SH SYNOPSIS",
        f".B {_text(' '.join((parser.usage or f'{parser.prog} [OPTION]...').split()))}",
        ".SH DESCRIPTION",
        *_paragraphs(parser.description or ""),
    ]
    for operand in command.operands:
        if operand.help:
            lines += [".TP", f"\\fI{_text(operand.metavar)}\\fR", _text(operand.help)]
    if command.options:
        lines += [".SH OPTIONS"]
        for option in command.options:
            lines += [".TP", _names(option), _text(option.help)]
    lines += _epilog(parser.epilog or "")
    seen = [_title(one) for one in others if one.name] if not command.name else ["vde_vmnet"]
    lines += [".SH SEE ALSO", *(f".BR {_text(name)} (1)," for name in seen[:-1]), f".BR {_text(seen[-1])} (1)"]
    return "\n".join([*lines, ""])


def _names(option: Option) -> str:
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
    return names if option.value is None else f"{names}=\\fI{_text(option.value.metavar)}\\fR"


def _epilog(text: str) -> Iterator[str]:
    """Paragraphs; ``Exit status:`` and ``Environment:`` are sections, what is indented stays as it is set."""
    for paragraph in re.split(r"\n{2,}", text.strip()):
        start = paragraph.find(_EXIT)
        if start >= 0:
            yield from _set(paragraph[:start])
            yield ".SH EXIT STATUS"
            yield _text(" ".join(paragraph[start + len(_EXIT) :].split()))
        elif paragraph:
            yield from _set(paragraph)


def _set(paragraph: str) -> Iterator[str]:
    lines = paragraph.rstrip().strip("\n").splitlines()
    if not lines:
        return
    if any(line.startswith(" ") for line in lines):
        yield from (".PP", ".nf", *(_text(line) for line in lines), ".fi")
    else:
        yield from (".PP", _text(" ".join(lines)))


def _paragraphs(text: str) -> Iterator[str]:
    for at, paragraph in enumerate(re.split(r"\n{2,}", text.strip())):
        if at:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Nothing in it is a request or an escape; a hyphen is one that can be copied to a shell."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("–", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
