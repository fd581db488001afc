"""fedhq in Flower: who does what each round is decided, and updates travel quantized.

On the server `AllocatorStrategy(inner, allocator)` goes around any strategy of `flwr.serverapp`;
on the client `quant_mod` and `register_profile(app)` go into the `ClientApp`, and
`allocated(model, message)` around its training loop.
"""
