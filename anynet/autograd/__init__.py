"""Automatic differentiation: primitives, the engine, and the transforms built on them."""
