"""What several distributions have in common, to inherit."""
