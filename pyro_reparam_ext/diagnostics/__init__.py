"""Answers to a user's questions about a model and a guide."""
