"""The servers that these tests stop and kill."""

from tests.integration.monitoring.venue import start_program, venue, venue_servers

__all__ = ["start_program", "venue", "venue_servers"]
