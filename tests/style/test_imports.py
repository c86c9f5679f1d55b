"""Import directions: nothing imports upwards, pure modules do no I/O, one module wires."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "python" / "vde_vmnet"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: By first part of the name below the package; a module may import from its own rank or a lower one.
RANKS = {
    "__main__": 7,
    "cli": 6,
    "testing": 7,
    "network": 6,
    "dashboard": 5,
    "demo": 5,
    "launch": 5,
    "plug": 3,
    "daemon": 5,
    "worker": 4,
    "control": 3,
    "keeper": 3,
    "ports": 3,
    "doctor": 3,
    "observe": 3,
    "uplinks": 3,
    "segment": 3,
    "opened": 3,
    "point_to_point": 3,
    "listening": 3,
    "management": 3,
    "service": 3,
    "directory_watch": 2,
    "socket_file": 2,
    "socket_peer": 2,
    "vde_client": 2,
    "privileges": 2,
    "import_paths": 2,
    "sockets": 2,
    "notify": 2,
    "pidfile": 2,
    "recovery": 2,
    "undo_steps": 2,
    "undo_files": 2,
    "bootptab_file": 1,
    "log": 2,
    "config": 1,
    "wire": 1,
    "addresses": 0,
    "errors": 0,
    "_engine": 0,
    "__init__": 7,  # the public door
}

#: Pure: no socket, no file, no process, no clock.
PURE = (
    "addresses.py",
    "errors.py",
    "config/model.py",
    "dashboard/access.py",
    "control/access.py",
    "control/metrics.py",
    "control/models.py",
    "control/openapi.py",
    "control/operations.py",
    "service/launchd.py",
    "service/networks.py",
    "service/plan.py",
    "service/record.py",
    "launch/qemu.py",
    "launch/qemu_memory.py",
    "service/sudoers.py",
    "service/systemd.py",
    "uplinks/vmnet/failures.py",
    "doctor/leftovers.py",
    "doctor/reach.py",
    "doctor/tools.py",
    "uplinks/linux/firewall.py",
    "uplinks/linux/ruleset.py",
    "uplinks/linux/vpn.py",
    "observe/snapshot.py",
    "observe/tables.py",
    "observe/views.py",
    "wire/bootptab.py",
    "wire/console.py",
    "wire/leases.py",
    "wire/stream.py",
    "wire/vde.py",
    "uplinks/linux/subnets.py",
)
IMPURE_IMPORTS = {
    "asyncio",
    "fcntl",
    "os",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}

#: What may use other packages: it looks at a network, or serves those who do, after the drop. None of it is
#: loaded by what root runs, see below.
OBSERVERS = {"dashboard", "demo", "testing.py"} | {
    f"control/{path.name}"
    for path in (PACKAGE / "control").glob("*.py")
    if path.name not in ("__init__.py", "feed.py", "listener.py", "network.py", "opening.py", "paths.py")
}
OBSERVERS |= {"observe"} | {
    f"cli/{name}.py"
    for name in (
        *("change", "dashboard", "events", "fdb", "leases", "logs", "observing", "ports", "status", "top"),
    )
}
#: What root runs before it drops: the standard library and ourselves.
ROOT_MODULES = [
    path
    for path in MODULES
    if not {path.relative_to(PACKAGE).as_posix(), path.relative_to(PACKAGE).parts[0]} & OBSERVERS
]
#: Of those, what the daemon loads before it drops.
LOADED_BY_ROOT = ("cli", "cli.run", "daemon", "worker", "management", "control.listener", "control.opening")


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_upwards(path: Path) -> None:
    rank = RANKS[part(path)]
    for name in imported(path):
        if name.startswith("vde_vmnet."):
            other = name.split(".")[1]
            assert RANKS.get(other, 0) <= rank, f"{part(path)} imports {name}"


def test_only_the_worker_and_its_wiring_know_ports_and_uplinks() -> None:
    both = [
        part(path)
        for path in MODULES
        if {name.split(".")[1] for name in imported(path) if name.startswith("vde_vmnet.")}
        >= {"ports", "uplinks"}
    ]
    assert set(both) <= {"daemon", "worker", "control"}  # the last one shows what is there


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_do_no_io(name: str) -> None:
    found = {module.split(".")[0] for module in imported(PACKAGE / name)}
    assert not found & IMPURE_IMPORTS


def test_the_daemon_is_standard_library_only() -> None:
    for path in ROOT_MODULES:
        for name in imported(path):
            top = name.split(".")[0]
            assert top == "vde_vmnet" or top in sys.stdlib_module_names, f"{path}: {name}"


def test_what_root_loads_brings_no_other_package() -> None:
    modules = ", ".join(f"vde_vmnet.{name}" for name in LOADED_BY_ROOT)
    program = (
        f"import sys; before = set(sys.modules); import {modules};"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(loaded.stdout.split()) <= {"vde_vmnet", "_manylinux"}


def test_the_keeper_loads_no_engine() -> None:
    for name in ("daemon", "keeper", "recovery", "undo_steps", "sockets", "pidfile", "privileges"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        top_level = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert not any(
            "_engine" in (node.module or "") or "worker" in (node.module or "") for node in top_level
        )
