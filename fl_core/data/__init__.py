"""Data sets, and how their examples are spread over clients."""
