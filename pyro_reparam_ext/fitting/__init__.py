"""A fit in one call, and what it leaves behind."""
