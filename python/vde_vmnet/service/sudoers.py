"""The sudoers file with which Lima may start and stop our socket_vmnet. Pure.

Lima compares the file with its own text byte for byte, and refuses to start when they differ; so the layout,
the order of options and the blank lines are Lima's.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

__all__ = ["DEFAULT_NETWORKS", "LimaNetwork", "lima_sudoers"]

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
