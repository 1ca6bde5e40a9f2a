"""From pairs to trained weights: log-probabilities, the two witnesses, the steps and their strategies. No queue."""
