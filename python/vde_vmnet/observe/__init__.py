"""What observers make of a network's answers: rates, tables, screens. Nothing here is loaded by the daemon."""
