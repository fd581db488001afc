"""A heatmap of what every client does in the best trials of a study."""

from ._heatmap import plot_allocation_heatmap

__all__ = ["plot_allocation_heatmap"]
