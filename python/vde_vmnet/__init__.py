"""A real network for rootless virtual machines: VDE switch and uplink in one daemon."""
