"""What trains clients: in this process, in worker processes, or many at once."""
