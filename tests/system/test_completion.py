"""Completion in the shells themselves, and manual pages in the formatters themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vde_vmnet.cli import share

MARK = "~end~"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts, and a command for them to ask."""
    folder = tmp_path_factory.mktemp("shells")
    for name, text in share.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = folder / "bin" / "vde_vmnet"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom vde_vmnet.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return folder


def environment(place: Path) -> dict[str, str]:
    return {
        "PATH": f"{place}/bin:{os.environ['PATH']}",
        "HOME": str(place),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def bash(place: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    script = place / "bash-completion/completions/vde_vmnet"
    program = (
        f'source {script}; compopt() {{ :; }}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vde_vmnet;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [shell("bash"), "--norc", "-c", program, "bash", *words],
        env=environment(place),
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("vde_vmnet", "sta"), ["status"]),
        (("vde_vmnet", "po"), ["port", "ports"]),
        (("vde_vmnet", "ports", "--"), ["--help", "--json"]),
        (("vde_vmnet", "--vmnet-mo"), ["--vmnet-mode="]),
        (("vde_vmnet", "--vmnet-mode", "=", "s"), ["shared"]),
        (("vde_vmnet", "--vmnet-mode", "="), ["host", "shared", "bridged"]),
        (("vde_vmnet", "--backend", "n"), ["none"]),
        (("vde_vmnet", "--json", "bi"), ["bin"]),
        (("vde_vmnet", "run", "--vmnet-mode", "=", "b"), ["bridged"]),
        (("vde_vmnet", "run", "--fd-type", "=", "d"), ["dgram"]),
        (("vde_vmnet", "port", "d"), ["down"]),
        (("vde_vmnet", "reserve", "a"), ["add"]),
        (("vde_vmnet", "completion", "f"), ["fish"]),
        (("vde_vmnet", "run", "--", "bas"), ["bash"]),
        (("vde_vmnet", "doctor", "--vmnet-gateway", "="), []),
        (("vde_vmnet", "status", "--watch", "--inter"), ["--interval="]),
    ],
)  # fmt: skip
def test_bash(place: Path, words: tuple[str, ...], offered: list[str]) -> None:
    found = bash(place, *words)
    assert found[: len(offered)] == offered or (words[-1] == "bas" and "bash" in found), found
    if offered == []:
        assert found == []


@contextmanager
def typing(argv: list[str], place: Path) -> Iterator[int]:
    """A shell in a terminal; the descriptor to type into and read from."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execve(argv[0], argv, environment(place))  # noqa: S606
    try:
        yield terminal
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, wanted: str, seconds: float = 20.0) -> str:
    said, deadline = "", time.monotonic() + seconds
    while wanted not in said:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no {wanted!r} in {said!r}"
        said += os.read(terminal, 65536).decode(errors="replace").replace("\a", "")
    return said


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("bash", ["--norc", "--noprofile", "-i"], "source bash-completion/completions/vde_vmnet"),
        ("zsh", ["-f", "-i"], "autoload -U compinit; compinit -u -D; source zsh/site-functions/_vde_vmnet"),
    ],
)
def test_the_tabulator_key(place: Path, name: str, options: list[str], start: str) -> None:
    with typing([shell(name), *options], place) as terminal:
        # Put together by the shell, so that the echo of what is typed is not taken for the answer.
        os.write(terminal, f"{start}; echo '~e''nd~'\n".encode())
        read_until(terminal, MARK)
        os.write(terminal, b"vde_vmnet sta\t")
        read_until(terminal, "status ")
        os.write(terminal, b"--js\t")
        read_until(terminal, "--json")
        os.write(terminal, b"\x15vde_vmnet --vmnet-mode=sh\t")
        read_until(terminal, "--vmnet-mode=shared")


def test_fish(place: Path) -> None:
    program = "source fish/vendor_completions.d/vde_vmnet.fish; complete -C"
    for typed, offered in (
        ("vde_vmnet sta", "status\tshow a running network on one screen"),
        ("vde_vmnet ports --js", "--json\tas one line of JSON"),
        ("vde_vmnet --vmnet-mode=sh", "--vmnet-mode=shared\t"),
        ("vde_vmnet port d", "down"),
    ):
        done = subprocess.run(
            [shell("fish"), "--no-config", "-c", f'{program} "{typed}"'],
            env=environment(place),
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert any(line.startswith(offered) for line in done.stdout.splitlines()), done.stdout


def test_a_script_asks_for_networks_and_finds_none_quietly(place: Path) -> None:
    assert bash(place, "vde_vmnet", "status", "no-such-") == []


def test_manual_pages_are_well_formed() -> None:
    pages = {name: text for name, text in share.files().items() if name.startswith("man/")}
    if shutil.which("mandoc"):
        command = ["mandoc", "-T", "lint", "-W", "warning"]
    elif shutil.which("man"):
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-"]
    else:
        pytest.skip("there is neither mandoc nor man")
    for name, text in pages.items():
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=20)
        said = done.stdout + done.stderr if command[0] == "mandoc" else done.stderr
        assert [line for line in said.splitlines() if line and "missing date" not in line] == [], name
