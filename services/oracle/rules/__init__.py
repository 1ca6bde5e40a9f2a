"""Rules that ship with the oracle: factories for judges of kind `rules`."""
