"""Log-probabilities, optimisation, publishing of the next weights."""
