"""The vmnet uplink: Apple's vmnet.framework, by our own declaration of its interface."""
