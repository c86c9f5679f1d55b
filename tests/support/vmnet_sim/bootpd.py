"""`launchctl kickstart` of bootpd on the simulated machine: makes the fabric read bootptab again.

python bootpd.py FABRIC_SOCKET
"""

import socket
import sys


def main() -> int:
    """The exit status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(sys.argv[1])
        connection.send(b"restart_bootpd macos=0")
        return 0 if connection.recv(4096) == b"status=1000" else 1


if __name__ == "__main__":
    sys.exit(main())
