"""What ``vde_vmnet run`` does: a command with its network wired, on a private daemon or a running one."""
