"""Turns responses into preferences."""
