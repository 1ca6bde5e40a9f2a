"""Run files: read with overrides, checked without running, their errors in words."""
