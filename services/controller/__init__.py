"""REST API and reconciler: advances the iterations of a run."""
