"""Whether training has converged, from its losses and iterates alone."""
