"""Functions of numbers that the distributions are made of: quadrature, tails, velocities."""
