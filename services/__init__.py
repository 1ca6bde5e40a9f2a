"""The four services and the command line; no service imports another."""
