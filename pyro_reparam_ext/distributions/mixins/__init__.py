"""Mixins of distributions: parts that several have in common, to inherit."""
