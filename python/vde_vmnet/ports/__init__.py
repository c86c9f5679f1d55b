"""Where virtual machines plug in: each module prepares descriptors and hands them to the engine."""
