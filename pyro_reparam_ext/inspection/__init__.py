"""A look at the sites of a program: what they are, and what is wrong with them."""
