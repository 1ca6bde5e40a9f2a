"""The Helm chart `inpo/`, its presets, and `check/`, which holds what they render against what a cluster would say."""
