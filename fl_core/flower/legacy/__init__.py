"""The same for Flower's legacy API."""
