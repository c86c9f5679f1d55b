"""Bytes to messages and back; imports no I/O."""
