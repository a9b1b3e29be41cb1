"""Supports, and the bijections by which they are reached from real numbers."""
