"""What runs inside the guest: its first process and its DHCP script, as text.

The guest has two serial ports. The kernel and whoever is curious write to the first, which is only logged.
The second belongs to `console.py` alone, in raw mode: one line in is one command, one line out is its
result, both as base64, so that neither kernel messages nor odd bytes can be taken for an answer.
"""

from __future__ import annotations

__all__ = ["COMMAND_PORT", "DHCP_SCRIPT", "INIT", "LEASE_FILE", "READY"]

#: The guest's side of the command channel.
COMMAND_PORT = "/dev/ttyS1"
#: First line on the command channel, once.
READY = "vde_vmnet-guest-ready"
#: Where the DHCP script leaves ``key=value`` lines of the last lease.
LEASE_FILE = "/run/lease"

# A request is "NUMBER SECONDS BASE64": the number comes back with the answer, the seconds are the limit
# after which the command is killed. An answer is "NUMBER STATUS BASE64".
INIT = f"""#!/bin/sh
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/ TERM=dumb
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /run /tmp /var/www
mount -t devpts pts /dev/pts
while read -r module; do insmod "$module"; done < /etc/modules
ip link set lo up
hostname guest
exec 3<>{COMMAND_PORT}
stty raw -echo <&3
echo {READY} >&3
# In a shell of its own: process 1 inherits orphans, and their end would cut a read short in the middle.
while read -r number seconds command <&3; do
    echo "$command" | base64 -d > /run/command
    setsid timeout -s KILL "$seconds" sh /run/command < /dev/null > /run/output 2>&1 3>&-
    status=$?
    echo "$number $status $(base64 -w 0 < /run/output)" >&3
done &
while kill -0 $! 2> /dev/null; do wait $!; done
poweroff -f
"""

# busybox udhcpc calls this with the event as argument and the lease in the environment.
DHCP_SCRIPT = f"""#!/bin/sh
case "$1" in
deconfig)
    ip -4 addr flush dev "$interface"
    ip link set "$interface" up
    ;;
bound|renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    for address in $router; do ip route replace default via "$address" dev "$interface"; done
    : > /etc/resolv.conf
    [ -n "$domain" ] && echo "search $domain" >> /etc/resolv.conf
    for address in $dns; do echo "nameserver $address" >> /etc/resolv.conf; done
    {{
        echo "address=$ip"
        echo "prefix=$mask"
        echo "router=$router"
        echo "dns=$dns"
        echo "domain=$domain"
        echo "seconds=$lease"
        echo "server=$serverid"
        echo "mtu=$mtu"
    }} > {LEASE_FILE}
    ;;
esac
"""
