"""Networks and the quantizers that train and deploy them at 2 to 8 bits."""

from .evaluate import accuracy, evaluating, per_class_accuracy, predict
from .fake_quant import fake_quantize
from .layers import FakeQuantConv2d, FakeQuantLayer, FakeQuantLinear
from .networks import build_model
from .observers import (
    activation_range,
    fit_activation_scale,
    fit_scale,
    fit_weight_scale,
    quantize_activation,
    quantize_weight,
    weight_range,
)
from .qat import calibrate_, convert_, deploy, prepare_

__all__ = [
    "FakeQuantConv2d",
    "FakeQuantLayer",
    "FakeQuantLinear",
    "accuracy",
    "activation_range",
    "build_model",
    "calibrate_",
    "convert_",
    "deploy",
    "evaluating",
    "fake_quantize",
    "fit_activation_scale",
    "fit_scale",
    "fit_weight_scale",
    "per_class_accuracy",
    "predict",
    "prepare_",
    "quantize_activation",
    "quantize_weight",
    "weight_range",
]
