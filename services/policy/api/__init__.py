"""What others may ask of the policy service over HTTP: completions of the promoted version."""
