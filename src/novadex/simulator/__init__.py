"""Plausible order flow through the public services, the same for the same seed."""
