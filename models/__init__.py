"""Networks and the quantizers that train and deploy them at 2 to 8 bits."""

from .evaluate import accuracy, evaluating, per_class_accuracy, predict
from .fake_quant import fake_quantize, fake_quantize_dynamic
from .granularity import Granularity, PerAxis, PerGroup, PerTensor
from .layers import FakeQuantLayer
from .networks import build_model
from .observers import (
    Fit,
    activation_range,
    fit_activation_range,
    fit_range,
    fit_weight_range,
    weight_range,
)
from .qat import (
    calibrate_,
    convert_,
    deploy,
    fake_quant_layers,
    prepare_,
    quantizable_layers,
    shadow_,
)
from .quantizers import InputQuantizer, WeightQuantizer
from .recipe import LayerBits, Range, Recipe

__all__ = [
    "FakeQuantLayer",
    "Fit",
    "Granularity",
    "InputQuantizer",
    "LayerBits",
    "PerAxis",
    "PerGroup",
    "PerTensor",
    "Range",
    "Recipe",
    "WeightQuantizer",
    "accuracy",
    "activation_range",
    "build_model",
    "calibrate_",
    "convert_",
    "deploy",
    "evaluating",
    "fake_quant_layers",
    "fake_quantize",
    "fake_quantize_dynamic",
    "fit_activation_range",
    "fit_range",
    "fit_weight_range",
    "per_class_accuracy",
    "predict",
    "prepare_",
    "quantizable_layers",
    "shadow_",
    "weight_range",
]
