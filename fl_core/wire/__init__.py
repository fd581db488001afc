"""How updates and the model travel: codec, rounding, downlink."""
