"""What the server does with updates."""
