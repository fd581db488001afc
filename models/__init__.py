"""Networks and the quantizers that train and deploy them at 2 to 8 bits."""

from .convert import calibrate_, convert_, deploy
from .evaluate import accuracy, evaluating, per_class_accuracy, predict
from .fake_quant import fake_quantize, fake_quantize_dynamic, fake_quantize_fitted
from .granularity import PER_CHANNEL, Granularity, PerAxis, PerGroup, PerTensor
from .layers import FakeQuantLayer
from .mixed_bits import MixedBits, allocate_bits, with_bits
from .networks import build_model
from .observers import (
    Fit,
    activation_range,
    fit_activation_range,
    fit_range,
    fit_weight_range,
    weight_range,
)
from .operators import list_operators
from .pool import MaxPool2d
from .prepare import fake_quant_layers, prepare_, quantizable_layers, restore_, shadow_
from .ptq import correct_bias_, output_divergence
from .quantizers import InputQuantizer, WeightQuantizer
from .recipe import LayerBits, Range, Recipe
from .sensitivity import HessianTrace, Perturbation, Sensitivity, layer_sensitivities

__all__ = [
    "PER_CHANNEL",
    "FakeQuantLayer",
    "Fit",
    "Granularity",
    "HessianTrace",
    "InputQuantizer",
    "LayerBits",
    "MaxPool2d",
    "MixedBits",
    "PerAxis",
    "PerGroup",
    "PerTensor",
    "Perturbation",
    "Range",
    "Recipe",
    "Sensitivity",
    "WeightQuantizer",
    "accuracy",
    "activation_range",
    "allocate_bits",
    "build_model",
    "calibrate_",
    "convert_",
    "correct_bias_",
    "deploy",
    "evaluating",
    "fake_quant_layers",
    "fake_quantize",
    "fake_quantize_dynamic",
    "fake_quantize_fitted",
    "fit_activation_range",
    "fit_range",
    "fit_weight_range",
    "layer_sensitivities",
    "list_operators",
    "output_divergence",
    "per_class_accuracy",
    "predict",
    "prepare_",
    "quantizable_layers",
    "restore_",
    "shadow_",
    "weight_range",
    "with_bits",
]
