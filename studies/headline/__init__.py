"""The headline study: fedhq against what else one could do, in simulated time, cell by cell."""
