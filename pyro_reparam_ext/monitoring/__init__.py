"""The gradient's noise followed along training."""
