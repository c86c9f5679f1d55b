"""Where macOS keeps what surrounds vmnet: the files of its DHCP server, and the commands about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MACOS", "MacOsPaths"]


@dataclass(frozen=True)
class MacOsPaths:
    """Files and commands. Used through the module attribute ``paths.MACOS``."""

    #: Reservations of bootpd, bootpd(8).
    bootptab: Path = Path("/etc/bootptab")
    #: What bootpd has handed out.
    dhcpd_leases: Path = Path("/var/db/dhcpd_leases")
    #: Makes bootpd read ``bootptab`` again.
    restart_bootpd: tuple[str, ...] = ("/bin/launchctl", "kickstart", "-kp", "system/com.apple.bootpd")
    #: The DHCP server, which the application firewall may block.
    bootpd: Path = Path("/usr/libexec/bootpd")
    #: The application firewall's command.
    firewall: Path = Path("/usr/libexec/ApplicationFirewall/socketfilterfw")
    #: Where System Settings keep whether Internet Sharing is on.
    internet_sharing: Path = Path("/Library/Preferences/SystemConfiguration/com.apple.nat.plist")


MACOS = MacOsPaths()
