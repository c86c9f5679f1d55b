"""Watching and steering a running network: its socket, its models, its client. Root loads ``paths`` only."""
