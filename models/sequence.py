"""Networks for series of measurements: a convolutional and a recurrent one."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

_CHANNELS = (16, 32)
_KERNEL = 5
_NORM_GROUPS = 4
_POOL = 2
_HIDDEN = 64


def build_cnn1d(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Twice conv, GroupNorm, ReLU, pool; then the mean over time and one linear layer.

    Args:
        input_shape: `(channels, time)` of one series.
        num_classes: How many classes.

    Returns:
        A module from `(examples, channels, time)` series to `(examples, classes)` logits.

    Raises:
        ValueError: If a series is too short to be halved twice.

    Example:
        >>> sum(p.numel() for p in build_cnn1d((6, 100), 7).parameters())
        3367
    """
    channels, length = input_shape
    shortest = _POOL ** len(_CHANNELS)
    if length < shortest:
        raise ValueError(
            f"`time >= {shortest}` must hold for the cnn1d, which halves it twice, "
            f"but got {length}. Take the gru or longer series."
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, out in enumerate(_CHANNELS, start=1):
        layers[f"conv{block}"] = nn.Conv1d(channels, out, _KERNEL, padding=_KERNEL // 2, bias=False)
        layers[f"norm{block}"] = nn.GroupNorm(_NORM_GROUPS, out)
        layers[f"relu{block}"] = nn.ReLU()
        layers[f"pool{block}"] = nn.MaxPool1d(_POOL)
        channels = out
    layers["mean"] = nn.AdaptiveAvgPool1d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


class RecurrentClassifier(nn.Module):
    """A gated recurrent unit; the mean of its states over time is classified.

    The mean, not the last state: it learns in fewer steps, and rounding errors average out.

    Args:
        channels: Measurements at each time.
        num_classes: How many classes.

    References:
        Cho et al., arXiv 1406.1078 (the unit).
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, _HIDDEN, batch_first=True)
        self.linear = nn.Linear(_HIDDEN, num_classes)

    def forward(self, series: Tensor) -> Tensor:
        """From `(examples, channels, time)` series to `(examples, classes)` logits."""
        states, _ = self.gru(series.transpose(1, 2))
        logits: Tensor = self.linear(states.mean(dim=1))
        return logits


def build_gru(input_shape: tuple[int, ...], num_classes: int) -> RecurrentClassifier:
    """One layer of 64 gated units, the mean over time, and one linear layer.

    Args:
        input_shape: `(channels, time)` of one series; the time may differ from call to call.
        num_classes: How many classes.

    Returns:
        A module from `(examples, channels, time)` series to `(examples, classes)` logits.

    Example:
        >>> sum(p.numel() for p in build_gru((6, 100), 7).parameters())
        14279
    """
    return RecurrentClassifier(input_shape[0], num_classes)
