"""Kernels that quantize, and their registration as operators of torch."""
