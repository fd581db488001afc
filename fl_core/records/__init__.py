"""What a run leaves behind: records and checkpoints."""
