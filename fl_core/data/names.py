"""Names of the data sets that settings may ask for; reading this needs no torch."""

from __future__ import annotations

DATASETS = (
    "cifar10",
    "cifar100",
    "digits",
    "femnist",
    "mnist5k",
    "pydoc",
    "shakespeare",
    "smartwatch",
    "spoken_digits",
)
"""The registered data sets."""

ARRAYS_PREFIX, ARRAYS_SUFFIX = "arrays:", ".npz"
"""What stands before and at the end of the path of a user's own arrays."""


def check_dataset_name(name: str) -> str:
    """The name itself, if it is registered or has the form of a user's own arrays.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> check_dataset_name("digits"), check_dataset_name("arrays:own/data.npz")
        ('digits', 'arrays:own/data.npz')
    """
    own = name.startswith(ARRAYS_PREFIX) and name.endswith(ARRAYS_SUFFIX)
    if name not in DATASETS and not own:
        raise ValueError(
            f"`name` must be one of {list(DATASETS)} or 'arrays:PATH.npz', but got {name!r}."
        )
    return name
