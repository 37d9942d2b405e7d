"""The network, every variant built from one description."""
