"""The server: who is asked what, and what becomes of the replies."""
