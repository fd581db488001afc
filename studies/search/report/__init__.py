"""What a search shows: its records as a view, figures, and a page."""
