"""Tests: their names are sentences about behaviour."""
