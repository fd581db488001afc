"""Layers that quantize their weights and input; their parameters are those of a float layer."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .quantizers import InputQuantizer, WeightQuantizer
from .recipe import Recipe


class FakeQuantLayer(nn.Module):
    """What quantizing layers share: a quantizer for each weight, and one for the input.

    Made by `prepare_` from a float layer, never constructed. Weight scales come from the weight at
    hand until `convert_` fixes the weight.
    """

    input_quantizer: InputQuantizer | None
    weight_quantizers: nn.ModuleDict

    def set_up(self, recipe: Recipe, name: str) -> None:
        """Adds what a float layer does not have; of it the state dict gets learned ranges alone."""
        weight_bits, activation_bits = recipe.bits_of(name)
        ranges = recipe.granularity, recipe.weight_fit, recipe.weight_range
        self.weight_quantizers = nn.ModuleDict(
            {
                key.replace(".", "_"): WeightQuantizer(weight_bits, weight, *ranges)
                for key, weight in self.quantized_parameters()
            }
        )
        self.input_quantizer = None
        if activation_bits is not None and self.takes_numbers():
            self.input_quantizer = InputQuantizer(
                activation_bits, recipe.activation_fit, recipe.activation_range
            )

    def tear_down(self) -> None:
        """Takes away what `set_up` added, however far that came."""
        for name in ("weight_quantizers", "input_quantizer"):
            if hasattr(self, name):
                delattr(self, name)

    def takes_numbers(self) -> bool:
        """Whether the input can be quantized; indices cannot."""
        return True

    def quantized_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that are quantized."""
        yield "weight", self.get_parameter("weight")

    def quantized_weight(self, name: str = "weight") -> Tensor:
        """A parameter on its grid."""
        # Not `get_parameter`: `torch.func.functional_call` puts plain tensors in their places.
        weight = attrgetter(name)(self)
        quantized: Tensor = self.weight_quantizers[name.replace(".", "_")](weight)
        return quantized

    def quantized_input(self, x: Tensor) -> Tensor:
        """The layer's input on its grid."""
        return x if self.input_quantizer is None else self.input_quantizer(x)


class FakeQuantConv1d(FakeQuantLayer, nn.Conv1d):
    """A convolution over series, of quantized weights and inputs."""

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Conv1d`."""
        x, weight = self.quantized_input(input), self.quantized_weight()
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class FakeQuantConv2d(FakeQuantLayer, nn.Conv2d):
    """A convolution over images, of quantized weights and inputs."""

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Conv2d`."""
        x, weight = self.quantized_input(input), self.quantized_weight()
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class FakeQuantLinear(FakeQuantLayer, nn.Linear):
    """A linear layer over quantized weights and inputs."""

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Linear`."""
        x, weight = self.quantized_input(input), self.quantized_weight()
        return nn.functional.linear(x, weight, self.bias)


class FakeQuantEmbedding(FakeQuantLayer, nn.Embedding):
    """A table of quantized vectors."""

    def takes_numbers(self) -> bool:
        """Tokens are indices."""
        return False

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Embedding` without `max_norm`."""
        return nn.functional.embedding(
            input,
            self.quantized_weight(),
            self.padding_idx,
            scale_grad_by_freq=self.scale_grad_by_freq,
            sparse=self.sparse,
        )


class _FakeQuantRecurrent(FakeQuantLayer, nn.RNNBase):
    """Quantized weights and input sequence; what goes from step to step stays float.

    Torch has no `vmap` of recurrent layers.
    """

    _flat_weights: list[Any]
    _flat_weights_names: list[str]

    def quantized_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All matrices, of every layer and direction."""
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("weight_"):
                yield name, parameter

    def _swap_weights(self) -> list[Any]:
        """Puts quantized weights where the float layer looks for its own; returns these."""
        # The float layer rebuilds its list when a parameter was replaced: let it before the swap.
        self._update_flat_weights()
        floats = self._flat_weights
        self._flat_weights = [
            self.quantized_weight(name) if name.startswith("weight_") else parameter
            for name, parameter in zip(self._flat_weights_names, floats, strict=True)
        ]
        return floats

    def _quantized_sequence(self, sequence: Tensor | PackedSequence) -> Tensor | PackedSequence:
        if isinstance(sequence, PackedSequence):
            return sequence._replace(data=self.quantized_input(sequence.data))
        return self.quantized_input(sequence)


class FakeQuantGRU(_FakeQuantRecurrent, nn.GRU):
    """A GRU over a quantized sequence, with quantized weights."""

    def forward(self, input, hx=None):  # type: ignore[no-untyped-def]
        """Like `nn.GRU`."""
        floats = self._swap_weights()
        try:
            return nn.GRU.forward(self, self._quantized_sequence(input), hx)
        finally:
            self._flat_weights = floats


class FakeQuantLSTM(_FakeQuantRecurrent, nn.LSTM):
    """An LSTM over a quantized sequence, with quantized weights."""

    def forward(self, input, hx=None):  # type: ignore[no-untyped-def]
        """Like `nn.LSTM`."""
        floats = self._swap_weights()
        try:
            return nn.LSTM.forward(self, self._quantized_sequence(input), hx)
        finally:
            self._flat_weights = floats


class FakeQuantMultiheadAttention(FakeQuantLayer, nn.MultiheadAttention):
    """Attention with quantized projections over quantized query, key and value.

    The input of the output projection, which `nn.MultiheadAttention` keeps to itself, stays float.
    """

    def quantized_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The input and output projections."""
        for name, parameter in self.named_parameters():
            if name.endswith("proj_weight") or name == "out_proj.weight":
                yield name, parameter

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Like `nn.MultiheadAttention`."""
        q, k, v = self._quantized_inputs(query, key, value)
        swaps = self.batch_first and query.dim() == 3
        if swaps:
            # Each once, so that torch sees self-attention and makes one projection of the three.
            turned = {id(x): x.transpose(0, 1) for x in (q, k, v)}
            q, k, v = (turned[id(x)] for x in (q, k, v))
        apart = not self._qkv_same_embed_dim
        output, weights = nn.functional.multi_head_attention_forward(
            q,
            k,
            v,
            self.embed_dim,
            self.num_heads,
            None if apart else self.quantized_weight("in_proj_weight"),
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.quantized_weight("out_proj.weight"),
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=apart,
            q_proj_weight=self.quantized_weight("q_proj_weight") if apart else None,
            k_proj_weight=self.quantized_weight("k_proj_weight") if apart else None,
            v_proj_weight=self.quantized_weight("v_proj_weight") if apart else None,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return output.transpose(0, 1) if swaps else output, weights

    def _quantized_inputs(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Each once: of self-attention the three are one."""
        quantized: dict[int, Tensor] = {}
        for x in (query, key, value):
            if id(x) not in quantized:
                quantized[id(x)] = self.quantized_input(x)
        return [quantized[id(x)] for x in (query, key, value)]


_FUSED: dict[type[nn.Module], tuple[str, object]] = {
    nn.TransformerEncoderLayer: ("activation_relu_or_gelu", 0),
    nn.TransformerEncoder: ("use_nested_tensor", False),
}
"""What lets torch's encoders take their fused path, and the value with which they do not."""
_FUSED_BEFORE = "_fused_before_prepare"


def avoid_fused_transformers_(model: nn.Module) -> None:
    """Keeps torch's encoders from their fused inference, which reads float weights past layers."""
    for module in model.modules():
        for kind, (name, off) in _FUSED.items():
            if isinstance(module, kind):
                setattr(module, _FUSED_BEFORE, getattr(module, name))
                setattr(module, name, off)


def allow_fused_transformers_(model: nn.Module) -> None:
    """Undoes `avoid_fused_transformers_`."""
    for module in model.modules():
        for kind, (name, _) in _FUSED.items():
            if isinstance(module, kind) and hasattr(module, _FUSED_BEFORE):
                setattr(module, name, getattr(module, _FUSED_BEFORE))
                delattr(module, _FUSED_BEFORE)


QUANTIZING: dict[type[nn.Module], type[FakeQuantLayer]] = {
    nn.Conv1d: FakeQuantConv1d,
    nn.Conv2d: FakeQuantConv2d,
    nn.Linear: FakeQuantLinear,
    nn.Embedding: FakeQuantEmbedding,
    nn.GRU: FakeQuantGRU,
    nn.LSTM: FakeQuantLSTM,
    nn.MultiheadAttention: FakeQuantMultiheadAttention,
}
"""Which float layer becomes which quantizing one."""

FLOAT: dict[type[nn.Module], type[nn.Module]] = {made: kind for kind, made in QUANTIZING.items()}
"""And back."""
