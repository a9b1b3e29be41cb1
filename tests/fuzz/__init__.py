"""A generator of random programs, each with its exact answer: ``python -m tests.fuzz``.

A program is data (:mod:`.grammar`), drawn at random (:mod:`.generate`), printed as Pyro source
(:mod:`.source`), answered exactly in plain torch (:mod:`.exact`), compared (:mod:`.check`), and where
it fails made smaller until it can be read (:mod:`.shrink`). :mod:`.campaign` checks many of them,
:mod:`.plants` has faults that they must find. It is run for the ELBO, perhaps with particles that are
drawn together, or for a bound by several particles (:mod:`.bounds`).
"""
