"""Rounds as they are in the world: who is asked, who answers, and when."""
