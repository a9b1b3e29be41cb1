"""A whole step of SVI as one compiled graph."""
