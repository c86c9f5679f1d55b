"""The guest's disk-less image: a distribution kernel and an initramfs made here, cached by content.

Nothing is downloaded: the kernel comes from Debian's cloud kernel package, the programs from
busybox-static, and what a caller adds (iperf3 for a benchmark) from the machine itself.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vde_vmnet.demo import cpio
from vde_vmnet.demo.guest_init import DHCP_SCRIPT, INIT
from vde_vmnet.demo.kernel_modules import load_order, module_bytes, parse_dependencies
from vde_vmnet.errors import UnavailableError

__all__ = ["GuestImage", "build_image", "default_cache", "unavailable_reason"]

# Raise when what goes into an image changes without any of its inputs changing.
_RECIPE = 2
_WANTED_MODULES = ["virtio_pci", "virtio_net"]
_DIRECTORIES = "bin", "dev", "etc", "lib", "proc", "run", "sys", "tmp", "usr", "usr/bin", "var", "var/www"
_PACKAGES = "qemu-system-x86 linux-image-cloud-amd64 busybox-static"
_INSTALL = f"Run as root: apt-get install {_PACKAGES}"

# Why these: docs/decisions/guest-boot.md.
_COMMAND_LINE = "console=ttyS0 quiet loglevel=4 mitigations=off nokaslr panic=-1 random.trust_cpu=on"


@dataclass(frozen=True)
class GuestImage:
    """What QEMU is given; both files are readable by whoever built the image."""

    kernel: Path
    initramfs: Path
    command_line: str = _COMMAND_LINE


def default_cache() -> Path:
    """``/var/cache/vde_vmnet`` for root (whom an unprivileged QEMU must be able to read), else XDG's place."""
    if os.geteuid() == 0:
        return Path("/var/cache/vde_vmnet")
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "vde_vmnet"


def unavailable_reason() -> str | None:
    """Why no guest can be made and booted on this machine, as one sentence, or None."""
    try:
        _inputs()
        _qemu()
    except UnavailableError as error:
        return str(error)
    return None


def build_image(*, extras: Sequence[str] = (), cache: Path | None = None) -> GuestImage:
    """The image, from the cache if nothing it is made of has changed. Takes under a second when it has.

    ``extras`` are programs by name or path that the guest gets beside busybox, with their shared
    libraries, at the paths they have here.
    Raises UnavailableError: no kernel, a kernel this user may not read, no busybox, or no such program.
    """
    kernel, modules, busybox = _inputs()
    files = _program_files(extras)
    order = load_order(parse_dependencies((modules / "modules.dep").read_text()), _WANTED_MODULES)
    key = _key([kernel, busybox, *(modules / path for path in order), *files])
    cache = cache or default_cache()
    initramfs = cache / f"guest-{key}.cpio.gz"
    if not initramfs.exists():
        _publish(initramfs, _initramfs(modules, order, busybox, files))
    return GuestImage(kernel, initramfs)


def _inputs() -> tuple[Path, Path, Path]:
    """Kernel, its modules' directory, and a static busybox."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        raise UnavailableError(
            f"The guest is an x86-64 one and this machine's packages are {platform.machine()}"
        )
    kernel, modules = _kernel()
    busybox = shutil.which("busybox")
    if busybox is None:
        raise UnavailableError("busybox, the guest's programs, is not installed", next_step=_INSTALL)
    if b"/ld-linux" in Path(busybox).read_bytes()[:4096]:
        # The program header that names the dynamic loader stands at the very start of the file.
        raise UnavailableError(f"{busybox} is not statically linked", next_step=_INSTALL)
    return kernel, modules, Path(busybox)


def _qemu() -> str:
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        raise UnavailableError("qemu-system-x86_64 is not installed", next_step=_INSTALL)
    return program


def _kernel() -> tuple[Path, Path]:
    """The newest cloud kernel that has its modules, else the newest of any flavour."""

    def age(path: Path) -> tuple[bool, list[int]]:
        return "cloud" in path.name, [int(number) for number in re.findall(r"\d+", path.name)]

    unreadable = None
    for kernel in sorted(Path("/boot").glob("vmlinuz-*"), key=age, reverse=True):
        modules = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
        if not (modules / "modules.dep").exists():
            continue
        if os.access(kernel, os.R_OK):
            return kernel, modules
        unreadable = unreadable or kernel
    if unreadable is not None:
        raise UnavailableError(
            f"The kernel {unreadable} may not be read by this user",
            next_step=f"Run as root: chmod a+r {unreadable}",
        )
    raise UnavailableError("There is no kernel with modules in /boot for the guest", next_step=_INSTALL)


def _program_files(programs: Sequence[str]) -> list[Path]:
    """The programs and every shared object the loader would give them."""
    files: dict[Path, None] = {}
    for name in programs:
        program = shutil.which(name)
        if program is None:
            raise UnavailableError(f'"{name}", wanted inside the guest, is not installed')
        files[Path(program)] = None
        # Statically linked: ldd says so with a non-zero status, and there is nothing to add.
        listing = subprocess.run(
            [shutil.which("ldd") or "/usr/bin/ldd", program], capture_output=True, text=True, check=False
        ).stdout
        for path in re.findall(r"(/\S+) \(0x", listing):
            files[Path(path)] = None
    return list(files)


def _key(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{_RECIPE}\n{INIT}\n{DHCP_SCRIPT}\n".encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _initramfs(modules: Path, order: list[str], busybox: Path, files: Sequence[Path]) -> bytes:
    applets = subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    loaded = [f"/lib/{Path(path).name.partition('.ko')[0]}.ko" for path in order]
    entries = [cpio.directory(path) for path in _DIRECTORIES]
    entries += [
        cpio.device("dev/console", 5, 1),
        cpio.file("init", INIT.encode(), 0o755),
        cpio.file("etc/udhcpc.script", DHCP_SCRIPT.encode(), 0o755),
        cpio.file("etc/modules", "".join(f"{path}\n" for path in loaded).encode()),
        cpio.file("etc/passwd", b"root::0:0:root:/:/bin/sh\n"),
        cpio.file("etc/group", b"root:x:0:\n"),
        # Without it the C library asks for modules that a static program cannot load, and crashes.
        cpio.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"),
        cpio.file("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n"),
        cpio.file("var/www/index.html", b"hello from the guest\n"),
        cpio.file("bin/busybox", busybox.read_bytes(), 0o755),
    ]
    entries += [cpio.symlink(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"]
    entries += [
        cpio.file(name.lstrip("/"), module_bytes(modules / path))
        for name, path in zip(loaded, order, strict=True)
    ]
    known = {entry.path for entry in entries}
    for path in files:
        for parent in reversed(path.parents):
            inside = str(parent).lstrip("/")
            if inside and inside not in known:
                entries.append(cpio.directory(inside))
                known.add(inside)
        entries.append(cpio.file(str(path).lstrip("/"), path.read_bytes(), 0o755))
    # Level 1: the guest unpacks it slowly enough, and the difference in size is a few per cent.
    return gzip.compress(cpio.archive(entries), compresslevel=1, mtime=0)


def _publish(path: Path, data: bytes) -> None:
    """Write beside and rename, so that two runs at once both see a whole file."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
        stream.write(data)
    Path(stream.name).chmod(0o644)
    Path(stream.name).rename(path)
