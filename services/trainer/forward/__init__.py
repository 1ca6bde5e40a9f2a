"""Token sequences through a model: batches and log-probabilities. No gradient step is taken here."""
