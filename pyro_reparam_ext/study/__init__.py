"""Measuring gradient estimators: draws, moments, and what is said of them."""
