"""The books of the markets: from order events, or imported from another exchange; read from the cache server."""
