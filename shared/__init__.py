"""What the services have in common: the mathematics, the contracts, the store and the runtime."""
