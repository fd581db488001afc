"""What is searched: settings of a search, its space, and their checks."""
