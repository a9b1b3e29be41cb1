"""Layers that take random weights, and how a run of a model finds them."""
