"""Federated benchmarks that the Hugging Face hub keeps, read through its package `datasets`.

References:
    Krizhevsky, Learning multiple layers of features from tiny images (2009): CIFAR.
    Caldas et al., LEAF (arXiv 1812.01097): FEMNIST by writer, Shakespeare by speaking role.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

from ...allocator.arrays import BoolArray
from .convert import as_dataset, natural_ids
from .datasets import Dataset
from .pydoc_text import ALPHABET, encode_text


def load_images(path: str) -> Dataset:
    """All images of a data set with the splits train and test; a federation cuts its own test.

    Args:
        path: Name on the hub.

    Raises:
        ValueError: If it cannot be fetched.
    """
    return as_dataset(_fetch(path, "train+test"))


def load_femnist() -> Dataset:
    """Digits and letters, black on white; each writer is a natural client.

    Raises:
        ValueError: If it cannot be fetched.
    """
    return as_dataset(_fetch("flwrlabs/femnist", "train"), num_classes=62)


def load_shakespeare() -> Dataset:
    """Windows of 80 characters; each role of a play is a natural client.

    Raises:
        ValueError: If it cannot be fetched.
    """
    table = _fetch("flwrlabs/shakespeare", "train")
    return shakespeare_windows(*(list(table[name]) for name in ("character_id", "x", "y")))


def shakespeare_windows(roles: list[str], texts: list[str], following: list[str]) -> Dataset:
    """Windows that do not overlap, each character labelled with the next.

    The rows of a role slide over its text by one character; of these, a row is kept where the one
    kept before ends. Characters are coded as in `pydoc`.

    Args:
        roles: `(rows,)` column `character_id`: role and play.
        texts: `(rows,)` column `x`: texts of one length.
        following: `(rows,)` column `y`: the character after each text.

    Returns:
        Windows whose groups are the roles.

    Example:
        >>> data = shakespeare_windows(["r"] * 4, ["abc", "bcd", "cde", "def"], list("defg"))
        >>> ["".join(ALPHABET[k] for k in row) for row in data.inputs], len(data.labels)
        (['abc', 'def'], 2)
    """
    width = len(texts[0])
    kept = np.flatnonzero(_starts_anew(roles, texts, following, width))
    rows = [encode_text(texts[k] + following[k]) for k in kept]
    codes = torch.from_numpy(np.stack(rows))
    groups = natural_ids(np.array(roles)[kept])
    return Dataset(codes[:, :-1].contiguous(), codes[:, 1:].contiguous(), len(ALPHABET), groups)


def _starts_anew(roles: list[str], texts: list[str], following: list[str], width: int) -> BoolArray:
    """`(rows,)` whether a row begins where the last such row ends, or begins another text."""
    anew = np.ones(len(texts), dtype=np.bool_)
    since = 0
    for k in range(1, len(texts)):
        slides = roles[k] == roles[k - 1] and texts[k] == texts[k - 1][1:] + following[k - 1]
        since = (since + 1) % width if slides else 0
        anew[k] = since == 0
    return anew


def _fetch(path: str, split: str) -> Any:
    """A table of the hub, from the network or from what an earlier call kept."""
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise ValueError(
            f"the package 'datasets' that fetches {path!r} is not installed. "
            "Run: pip install 'fedhq[hub]'"
        ) from None
    try:
        return datasets.load_dataset(path, split=split)
    except Exception as error:  # of its many layers, each has exceptions of its own
        raise ValueError(
            f"{path!r} could not be fetched: {error}. Run once where there is a network, so that "
            f"it is kept: python -c \"import datasets; datasets.load_dataset('{path}')\""
        ) from error
