"""Small transformers: a classifier of images, and a language model over characters.

References:
    Vaswani et al., arXiv 1706.03762 (attention); Dosovitskiy et al., arXiv 2010.11929 (patches);
    Xiong et al., arXiv 2002.04745 (the normalisation comes before each branch).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTH = 64
_HEADS = 4
_HIDDEN = 128
_VISION_BLOCKS = 4
_TEXT_BLOCKS = 2
_PATCHES_A_SIDE = 8


def _linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer that keeps the spread of its input; PyTorch's own start shrinks it.

    Without this the vit stays at chance for hundreds of steps of plain SGD.
    """
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head self-attention whose four projections are linear layers of their own.

    Args:
        width: Features of a token, a multiple of `heads`.
        heads: Attention heads.
        is_causal: Whether a token sees only itself and the tokens before it.
    """

    def __init__(self, width: int, heads: int, is_causal: bool) -> None:
        super().__init__()
        self.query = _linear(width, width)
        self.key = _linear(width, width)
        self.value = _linear(width, width)
        self.output = _linear(width, width)
        self._heads = heads
        self._is_causal = is_causal

    def forward(self, x: Tensor) -> Tensor:
        """From `(examples, tokens, width)` to the same."""
        query, key, value = (
            layer(x).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=self._is_causal
        )
        output: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return output


class Block(nn.Module):
    """Attention, then two linear layers with a GELU between; each normalises its own input first.

    Args:
        width: Features of a token.
        heads: Attention heads.
        hidden: Features between the two linear layers.
        is_causal: Whether a token sees only itself and the tokens before it.

    Example:
        >>> Block(8, heads=2, hidden=16, is_causal=False)(torch.zeros(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int, hidden: int, is_causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, is_causal)
        self.norm2 = nn.LayerNorm(width)
        self.expand = _linear(width, hidden)
        self.shrink = _linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """From `(examples, tokens, width)` to the same."""
        x = x + self.attention(self.norm1(x))
        hidden = nn.functional.gelu(self.expand(self.norm2(x)))
        output: Tensor = x + self.shrink(hidden)
        return output


def _blocks(count: int, is_causal: bool) -> nn.Sequential:
    return nn.Sequential(*(Block(_WIDTH, _HEADS, _HIDDEN, is_causal) for _ in range(count)))


def _positions(tokens: int) -> nn.Parameter:
    """Of unit spread, as an embedding's rows: fainter ones drown, and the mean loses all order."""
    return nn.Parameter(torch.randn(tokens, _WIDTH))


class VisionTransformer(nn.Module):
    """Attention over the patches of an image; the mean of the tokens is classified.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: How many classes.
        patch: Side of a patch; it divides height and width.
    """

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, patch: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.patches = nn.Conv2d(channels, _WIDTH, kernel_size=patch, stride=patch)
        nn.init.kaiming_normal_(self.patches.weight)
        self.positions = _positions((height // patch) * (width // patch))
        self.blocks = _blocks(_VISION_BLOCKS, is_causal=False)
        self.norm = nn.LayerNorm(_WIDTH)
        self.linear = nn.Linear(_WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """From `(examples, channels, height, width)` images to `(examples, classes)` logits."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.linear(self.norm(self.blocks(x)).mean(dim=1))
        return logits


class CharacterModel(nn.Module):
    """Predicts, at every place of a text, the character that comes next.

    Args:
        length: Most characters of a text.
        vocabulary: How many different characters there are.
    """

    def __init__(self, length: int, vocabulary: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, _WIDTH)
        self.positions = _positions(length)
        self.blocks = _blocks(_TEXT_BLOCKS, is_causal=True)
        self.norm = nn.LayerNorm(_WIDTH)
        self.linear = nn.Linear(_WIDTH, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """From `(examples, time)` int64 characters to `(examples, vocabulary, time)` logits."""
        x = self.characters(tokens) + self.positions[: tokens.shape[1]]
        logits: Tensor = self.linear(self.norm(self.blocks(x)))
        return logits.transpose(1, 2)


def build_vit(input_shape: tuple[int, ...], num_classes: int) -> VisionTransformer:
    """Four blocks of attention over at most 8 x 8 patches, the smallest of side 2 or more that fit.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: How many classes.

    Returns:
        A module from `(examples, channels, height, width)` images to `(examples, classes)` logits.

    Raises:
        ValueError: If no patch divides both height and width.

    Example:
        >>> [build_vit((1, side, side), 10).patches.kernel_size[0] for side in (8, 28, 32)]
        [2, 4, 4]
    """
    _, height, width = input_shape
    smallest = max(2, -(-max(height, width) // _PATCHES_A_SIDE))
    for patch in range(smallest, min(height, width) + 1):
        if height % patch == 0 and width % patch == 0:
            return VisionTransformer(input_shape, num_classes, patch)
    raise ValueError(
        f"`height` and `width` must share a divisor of at least {smallest} for the vit, which cuts "
        f"at most {_PATCHES_A_SIDE} square patches a side, but got {(height, width)}. "
        "Pad the images, or take the cnn."
    )


def build_charlm(input_shape: tuple[int, ...], num_classes: int) -> CharacterModel:
    """Two blocks of causal attention over characters.

    Args:
        input_shape: `(time,)`, the most characters of a text.
        num_classes: How many different characters there are.

    Returns:
        A module from `(examples, time)` int64 characters to `(examples, vocabulary, time)` logits
        of each place's next character; a shorter text is allowed.

    Example:
        >>> build_charlm((64,), 71)(torch.zeros(2, 10, dtype=torch.int64)).shape
        torch.Size([2, 71, 10])
    """
    (length,) = input_shape
    return CharacterModel(length, num_classes)
