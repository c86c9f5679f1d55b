"""One guest under QEMU: started without privilege, driven over its command channel, ended for certain."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vde_vmnet.demo.accounts import Account, Credentials, credentials_of
from vde_vmnet.demo.console import CommandChannel, CommandResult
from vde_vmnet.demo.errors import GuestError
from vde_vmnet.demo.guest_image import GuestImage
from vde_vmnet.demo.guest_init import LEASE_FILE
from vde_vmnet.errors import UnavailableError

__all__ = ["Guest", "GuestConfig", "vde_network"]

# A boot takes 2 to 3 s under TCG on an idle core; the rest is for a machine that is busy.
_BOOT_SECONDS = 60.0
# One DHCP attempt a second; a server that checks first whether the address is free takes up to 3 s.
_DHCP_TRIES = 10


def vde_network(directory: Path, mac: str, *, name: str = "net0") -> tuple[str, ...]:
    """QEMU's options for one virtio network card plugged into the switch ``directory``.

    ``romfile=`` leaves the boot ROM out: the kernel is given on the command line.
    """
    return (
        "-netdev",
        f"vde,id={name},sock={directory}",
        "-device",
        f"virtio-net-pci,id={name}-card,netdev={name},mac={mac},romfile=",
    )


@dataclass(frozen=True)
class GuestConfig:
    """One guest. Its evidence (console, commands, QEMU command line) goes below ``evidence``."""

    image: GuestImage
    evidence: Path
    #: From `vde_network`, or any QEMU options.
    network: tuple[str, ...]
    #: Also the host name that the guest tells the DHCP server.
    name: str = "guest"
    #: As whom to run; None is the calling user.
    account: Account | None = None
    memory_mib: int = 192
    #: Put before QEMU, such as a command that enters a network namespace.
    prefix: tuple[str, ...] = ()
    #: More QEMU options.
    options: tuple[str, ...] = field(default=())

    def qemu_command(self, command_fd: int, monitor_fd: int) -> list[str]:
        """The whole command line, without what changes the user."""
        return [
            shutil.which("qemu-system-x86_64") or "qemu-system-x86_64",
            *("-nodefaults", "-no-user-config", "-no-reboot"),
            *("-name", self.name),
            *("-machine", "pc,usb=off"),
            *("-accel", "tcg,thread=multi"),
            *("-cpu", "qemu64"),
            *("-smp", "1", "-m", str(self.memory_mib)),
            *("-display", "none"),
            *("-serial", "stdio"),
            *("-chardev", f"socket,id=commands,fd={command_fd}", "-serial", "chardev:commands"),
            *("-chardev", f"socket,id=monitor,fd={monitor_fd}", "-mon", "chardev=monitor,mode=control"),
            *("-kernel", str(self.image.kernel)),
            *("-initrd", str(self.image.initramfs)),
            *("-append", self.image.command_line),
            *self.network,
            *self.options,
        ]


class Guest:
    """A running guest. Use as a context manager: leaving it kills QEMU and waits for its end."""

    def __init__(self, config: GuestConfig) -> None:
        """Start QEMU. Returns at once; `wait_ready` waits for the boot.

        Raises UnavailableError when QEMU is not installed.
        """
        self.config = config
        config.evidence.mkdir(parents=True, exist_ok=True)
        self.console_log = config.evidence / f"{config.name}-console.log"
        with ExitStack() as stack:
            command_host, command_guest = socket.socketpair()
            monitor_host, monitor_guest = socket.socketpair()
            for end in (command_guest, monitor_guest):
                stack.callback(end.close)
            command = [
                *config.prefix,
                *(config.account.command_prefix() if config.account else ()),
                *config.qemu_command(command_guest.fileno(), monitor_guest.fileno()),
            ]
            line = config.evidence / f"{config.name}-qemu.txt"
            line.write_text(shlex.join(command) + "\n")
            log = stack.enter_context(self.console_log.open("ab"))
            self._channel = CommandChannel(command_host)
            self._monitor = monitor_host.makefile("rwb", buffering=0)
            monitor_host.settimeout(_BOOT_SECONDS)
            monitor_host.close()  # the file keeps it open
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(command_guest.fileno(), monitor_guest.fileno()),
                    start_new_session=True,  # a Ctrl-C at the terminal is ours to act on
                )
            except FileNotFoundError as error:
                self._channel.close()
                self._monitor.close()
                raise UnavailableError(
                    f"{error.filename} is not installed",
                    next_step="Run as root: apt-get install qemu-system-x86",
                ) from None
        self._monitor_ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_ready(self, seconds: float = _BOOT_SECONDS) -> None:
        """Until commands can be run. Raises GuestError with the end of the console when it does not boot."""
        try:
            self._channel.wait_ready(seconds)
        except GuestError as error:
            raise GuestError(f"{error.message}: {self._console_tail()}") from error

    def run(self, command: str, seconds: float = 20.0) -> CommandResult:
        """`CommandChannel.run`, noted in the console log."""
        result = self._channel.run(command, seconds)
        with self.console_log.open("a") as log:
            log.write(f"\n$ {command}\n{result.output}[status {result.status}]\n")
        return result

    def check(self, command: str, seconds: float = 20.0) -> str:
        """Output of a command that must succeed. Raises GuestError with its output when it does not."""
        result = self.run(command, seconds)
        if result.status != 0:
            raise GuestError(
                f'"{command}" ended with status {result.status} in {self.config.name}: {result.output}'
            )
        return result.output

    def request_lease(self, interface: str = "eth0", *, tries: int = _DHCP_TRIES) -> dict[str, str] | None:
        """Ask for an address with DHCP and set it up; the lease's fields, or None when nobody answered.

        Keys: ``address``, ``prefix`` (length, digits), ``router``, ``dns``, ``domain``, ``seconds``,
        ``server``, ``mtu``; a field that the server did not send is empty.
        """
        asked = self.run(
            f"rm -f {LEASE_FILE}; udhcpc -i {interface} -q -n -f -t {tries} -T 1 -x hostname:{self.config.name}"
            " -O mtu -s /etc/udhcpc.script",
            seconds=tries + 10,
        )
        if asked.status != 0:
            return None
        return dict(line.split("=", 1) for line in self.check(f"cat {LEASE_FILE}").splitlines())

    def monitor(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """One QMP command; its ``return`` value. Raises GuestError with QEMU's words when it refuses."""
        if not self._monitor_ready:
            self._monitor.readline()  # the greeting
            self._monitor_ready = True
            self.monitor("qmp_capabilities")
        request = {"execute": command, "arguments": arguments or {}}
        self._monitor.write(json.dumps(request).encode() + b"\n")
        while line := self._monitor.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise GuestError(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise GuestError(f"QEMU ended during {command}")

    def wait_monitor_event(self, name: str) -> dict[str, Any]:
        """Read the monitor up to the next event called ``name``; its data. Raises GuestError at QEMU's end."""
        while line := self._monitor.readline():
            answer = json.loads(line)
            if answer.get("event") == name:
                return dict(answer.get("data", {}))
        raise GuestError(f"QEMU ended before {name}")

    def credentials(self) -> Credentials:
        """Of the running QEMU process."""
        return credentials_of(self.process.pid)

    def close(self) -> None:
        """Kill QEMU, as pulling the plug would; a second call does nothing."""
        self.process.kill()
        self.process.wait()
        self._channel.close()
        self._monitor.close()

    def _console_tail(self) -> str:
        lines: Sequence[str] = self.console_log.read_text(errors="replace").split("\n")
        return " | ".join(line.strip() for line in lines[-6:] if line.strip()) or "the console is empty"
