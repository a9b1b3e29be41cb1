"""From a guide sample site to the costs of every evaluation of the program."""
