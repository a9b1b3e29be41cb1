"""The entries of the registry, by family."""
