"""What others have measured, against the rules that the prediction rests on."""

from __future__ import annotations

from collections.abc import Iterator

_ONLY_FIRST_BLOCK = {
    "ResNet18, ARM": 0.649,
    "ResNet50, x64": 0.816,
    "MobileNetV2, x64": 0.486,
    "DenseNet40, ARM": 0.571,
    "Transformer, x64": 0.831,
}
"""Step time over the full step, only the first block trained (CoCoFL, facts 3.1)."""

_TWO_THIRDS = 2 / 3

_TEXT = """## Against published tables

- **Backward takes twice as long as forward** (facts T3, T4; `roofline` does not assume it: it
  sees both gradients of every operator). CoCoFL's tables give the time of a step that trains the
  first block only: forward, and gradients of inputs but not of weights, 2/3 of the step by the
  rule. Its forward pass is in int8, which the rule leaves out.
"""
_REST = """
- **Int4 over int8** (HAWQ on a T4 GPU, TVM): 1.70 and 1.55 times as fast over all layers, single
  layers 1.0 to 2.03. A roofline allows 1 (bound by launches) to 2 (bound by either rate); all but
  the 2.03 lie within.
- **QAT over float**: NNCF reports almost 2, Brevitas' maintainers call 2 "not that bad", eager
  implementations 2 to 10. By facts T5, six eager operators move 48 bytes a value in the forward
  pass alone, fused ones 16 to 20 in both: 3 times as much. The ratios above are of our fused
  kernels and must not be carried to other operators.

These tables hold no networks and rates of ours: they check rules, not predictions.
"""


def published_lines() -> Iterator[str]:
    """Paragraphs and a table."""
    yield _TEXT
    yield "| CoCoFL's network, processor | measured | by the rule | error |\n|---|---:|---:|---:|"
    for name, share in _ONLY_FIRST_BLOCK.items():
        yield f"| {name} | {share:.2f} | {_TWO_THIRDS:.2f} | {_TWO_THIRDS / share - 1:+.0%} |"
    yield _REST
