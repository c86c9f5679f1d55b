"""Every name that is looked up in Apple's libraries is in one table, and the table agrees with another one.

The other is the simulator's, written by somebody else from the same headers.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from vde_vmnet.uplinks.vmnet.abi import DATA, FUNCTIONS, KEYS

ROOT = Path(__file__).parents[3]
SIMULATOR = ROOT / "tests" / "support" / "vmnet_sim" / "symbols.txt"
#: What the names of Apple's symbols look like.
NAME = re.compile(r"_*(vmnet|dispatch|xpc|Block|NSConcrete|CF[A-Z])_?\w+")


def by_version() -> dict[str, str]:
    """Names of the simulator's table, with the macOS that brought them; 11.0 is "that or older"."""
    versions, version = {}, ""
    for line in SIMULATOR.read_text().splitlines():
        if re.fullmatch(r"\d+\.\d+", line):
            version = line
        elif line and not line.startswith("#"):
            versions[line] = version
    return versions


def test_both_tables_agree_on_the_framework() -> None:
    others = {name: since for name, since in by_version().items() if name.startswith("vmnet_")}
    ours = {
        **{function.name: function.since for function in FUNCTIONS if function.library == "vmnet"},
        **{key.symbol: key.since for key in KEYS},
    }
    for name, since in ours.items():
        if name.startswith("vmnet_"):
            assert others[name] == ("11.0" if since.startswith(("10.", "11.")) else since), name


def literals() -> Iterator[tuple[Path, str]]:
    """Strings of the uplink that could be names of symbols; docstrings are sentences and cannot."""
    for path in (ROOT / "python" / "vde_vmnet" / "uplinks" / "vmnet").glob("*.py"):
        if path.name != "abi.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path, node.value


def test_nothing_is_looked_up_that_is_not_in_the_table() -> None:
    known = {function.name for function in FUNCTIONS} | {key.symbol for key in KEYS} | set(DATA)
    found = {(path.name, text) for path, text in literals() if NAME.fullmatch(text)}
    assert any(text in known for _, text in found)
    # One that ends in an underscore is the beginning of names that are put together.
    assert not {
        (path, text)
        for path, text in found - {(path, text) for path, text in found if text in known}
        if not (text.endswith("_") and any(name.startswith(text) for name in known))
    }
