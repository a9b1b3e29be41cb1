"""Functions of any distribution, which are dispatched on its class."""
