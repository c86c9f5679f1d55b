"""What ``vde_vmnet doctor`` makes of a host, on every system: who reaches the switch, and what the dead left.

Judgement (``reach``, ``leftovers``, ``tools``) is pure: what was seen in, findings out. ``looking`` sees; it
changes nothing. What only one system has is in ``uplinks/*/checkup.py``.
"""
