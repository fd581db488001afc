"""Studies in a real PostgreSQL."""
