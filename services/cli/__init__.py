"""The `inpo` command and the all-in-one launcher."""
