"""Where studies live, and how they are opened."""
