"""A federation whose bytes the in-process trainer repeats."""
