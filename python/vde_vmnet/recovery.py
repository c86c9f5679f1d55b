"""What must be undone, as data: written to disk before each privileged step, undone in reverse.

The record outlives the process that made it, so the next start can finish what a `kill -9` interrupted.
Standard library only: the keeper runs this as root.
"""
