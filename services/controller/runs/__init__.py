"""Runs as people see them: checked and created, listed, followed."""
