"""A machine that systemd booted, in namespaces of its own: mounts, processes, network, name, control groups.

Its root is an overlay over this machine's, so that the checkout and every program are there, and nothing that
is written leaves it. It has no network but its loopback, no udev, and no unit but the journal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["Machine", "unavailable_reason"]

_SYSTEMD = Path("/lib/systemd/systemd")
_BOOT_SECONDS = 30

#: In the new namespaces, with the folder of the machine as its argument.
_BOOT = """
set -e
place=$1 root=$1/root
mount --make-rprivate /
mount -t tmpfs -o mode=755 scratch $place/scratch
mkdir $place/scratch/up $place/scratch/work
mount -t overlay root -o lowerdir=/,upperdir=$place/scratch/up,workdir=$place/scratch/work $root
mount -t proc proc $root/proc
mount -t sysfs -o ro sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
for folder in run dev opt; do mount -t tmpfs -o mode=755 $folder $root/$folder; done
mount -t tmpfs -o mode=1777 tmp $root/tmp
mkdir $root/dev/net $root/dev/shm
for device in null zero full random urandom tty net/tun; do
    : > $root/dev/$device
    mount --bind /dev/$device $root/dev/$device
done
: > $root/dev/console
mount --bind $place/console $root/dev/console
rm -rf $root/etc/systemd/system
mkdir $root/etc/systemd/system
for unit in udevd.service udevd-control.socket udevd-kernel.socket udev-trigger.service; do
    ln -s /dev/null $root/etc/systemd/system/systemd-$unit
done
cat > $root/etc/systemd/system/default.target <<END
[Unit]
Wants=systemd-journald.service
After=systemd-journald.service
END
ip link set lo up
cd $root
mkdir before
pivot_root . before
umount -l /before
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --log-target=console --show-status=no
"""


def unavailable_reason() -> str | None:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "needs root, to make namespaces"
    if not _SYSTEMD.exists():
        return "systemd is not installed"
    if _control_groups() is None:
        return "there are no control groups of version 2 that may be written"
    return None


def _control_groups() -> Path | None:
    for path in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (path / "cgroup.procs").exists() and os.access(path, os.W_OK) and not _read_only(path):
            return path
    return None


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


class Machine:
    """Booted when the constructor returns. A context manager that ends everything in it."""

    def __init__(self) -> None:
        groups = _control_groups()
        assert groups is not None
        self._place = Path(tempfile.mkdtemp(prefix="vdet-machine-"))
        for name in ("root", "scratch"):
            (self._place / name).mkdir()
        self.console = self._place / "console"
        self.console.touch()
        self._group = groups / self._place.name
        self._group.mkdir()
        # The shell joins the group before it makes the namespace of groups, whose root that becomes.
        joining = (
            f"echo $$ > {self._group}/cgroup.procs && exec unshare --mount --pid --net --uts --ipc --cgroup"
        )
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                ["sh", "-c", f'{joining} --fork sh -c "$0" boot "$1"', _BOOT, str(self._place)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._init = self._wait_for_init()
            assert self.run("systemctl", "is-system-running", "--wait", status=None).stdout.strip() in (
                "running",
                "degraded",
            )
        except BaseException:
            self.close()
            raise

    def _wait_for_init(self) -> int:
        """Its process 1, as soon as that is systemd and can be talked to."""
        until = time.monotonic() + _BOOT_SECONDS
        while time.monotonic() < until:
            assert self._process.poll() is None, self.console.read_text()
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
                init = int(children[0])
                if Path(f"/proc/{init}/root/run/systemd/private").exists():
                    return init
            signal.sigtimedwait([], 0.02)  # nothing tells that another process has made a socket
        raise AssertionError(f"It did not boot: {self.console.read_text()}")

    def run(self, *argv: str | Path, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end; asserts ``status`` unless that is None."""
        inside = ["nsenter", "-t", str(self._init), *["-m", "-p", "-n", "-u", "-i", "-C"], "--wd=/"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", *map(str, argv)]
        done = subprocess.run([*inside, *clean], check=False, capture_output=True, text=True, timeout=50)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    def close(self) -> None:
        """End every process of it, and remove what it stood on."""
        (self._group / "cgroup.kill").write_text("1")
        self._process.wait(10)
        # Deepest first; a group is gone when the kernel has buried its last process.
        until = time.monotonic() + 10
        groups = sorted(self._group.rglob("cgroup.procs"), key=lambda path: -len(path.parts))
        for group in (path.parent for path in groups):
            while group.exists() and time.monotonic() < until:
                try:
                    group.rmdir()
                except OSError:
                    signal.sigtimedwait([], 0.02)
        for name in ("root", "scratch"):
            (self._place / name).rmdir()  # the mounts went with their namespace
        self.console.unlink()
        self._place.rmdir()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
