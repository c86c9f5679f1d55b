"""The sudoers files with which ordinary users may start the daemon: for people, and for Lima. Pure.

The first is the original's ``etc_sudoers.d/vde_vmnet``: exact command lines and no environment, because an
option or variable of the caller's choice can be a file of root's. Lima compares its file with its own text byte
for byte, and refuses to start when they differ; so the layout, the order of options and the blank lines there
are Lima's.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from vde_vmnet.service.networks import ServiceNetwork

__all__ = ["DEFAULT_NETWORKS", "LimaNetwork", "daemon_sudoers", "lima_sudoers"]

# --- from Lima's default networks.yaml -----------------------------------------------------------------
VAR_RUN = "/private/var/run/lima"
GROUP = "admin"


@dataclass(frozen=True)
class LimaNetwork:
    """One network of Lima's ``networks.yaml`` that needs a daemon."""

    name: str
    #: ``shared``, ``host`` or ``bridged``.
    mode: str
    #: bridged only.
    interface: str | None = None
    #: shared and host only: gateway and end of the DHCP range, in a /24.
    gateway: IPv4Address | None = None
    dhcp_end: IPv4Address | None = None

    def start_command(self, program: str, var_run: str, group: str) -> str:
        """What Lima runs, as one line without quotes: sudo compares words."""
        words = [
            program,
            f"--pidfile={var_run}/{self.name}_socket_vmnet.pid",
            f"--socket-group={group}",
            f"--vmnet-mode={self.mode}",
        ]
        if self.mode == "bridged":
            words.append(f"--vmnet-interface={self.interface}")
        else:
            words += [
                f"--vmnet-gateway={self.gateway}",
                f"--vmnet-dhcp-end={self.dhcp_end}",
                "--vmnet-mask=255.255.255.0",
            ]
        return " ".join([*words, f"{var_run}/socket_vmnet.{self.name}"])

    def stop_command(self, var_run: str) -> str:
        """As above."""
        return f"/usr/bin/pkill -F {var_run}/{self.name}_socket_vmnet.pid"


DEFAULT_NETWORKS = (
    LimaNetwork("bridged", "bridged", interface="en0"),
    LimaNetwork("host", "host", gateway=IPv4Address("192.168.106.1"), dhcp_end=IPv4Address("192.168.106.254")),
    LimaNetwork(
        "shared", "shared", gateway=IPv4Address("192.168.105.1"), dhcp_end=IPv4Address("192.168.105.254")
    ),
)


def lima_sudoers(
    program: str,
    *,
    group: str = GROUP,
    var_run: str = VAR_RUN,
    networks: tuple[LimaNetwork, ...] = DEFAULT_NETWORKS,
) -> str:
    """The file's text. ``program`` is what Lima's ``paths.socketVMNet`` says; no value has a space in it."""
    may = f"%{group} ALL=(root:wheel) NOPASSWD:NOSETENV:"
    text = f"{may} /bin/mkdir -m 775 -p {var_run}\n"
    for network in sorted(networks, key=lambda network: network.name):
        commands = (network.start_command(program, var_run, group), network.stop_command(var_run))
        text += f'\n# Manage "{network.name}" network daemons\n\n{may} \\\n'
        text += ", \\\n".join(f"    {command}" for command in commands) + "\n"
    return text


def daemon_sudoers(program: str, networks: tuple[ServiceNetwork, ...], *, group: str, root_group: str) -> str:
    """The rules for ``group``: ``program`` as root, for each network with its one command line.

    ``root_group`` is root's own: "wheel" on macOS, "root" on Linux.
    """
    text = f"# Lets %{group} start these networks with sudo. Install as root, mode 0440, in /etc/sudoers.d.\n"
    for network in networks:
        what = "shared" if network.interface is None else f"bridged to {network.interface}"
        command = " ".join((program, *network.arguments()))
        text += f"\n# {what}: sudo {command}\n"
        text += f"%{group} ALL=(root:{root_group}) NOPASSWD:NOSETENV: {command}\n"
    return text
