"""Orders, their events and their fills: what the venue reports is recorded once, and guarded."""
