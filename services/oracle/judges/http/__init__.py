"""Judges behind a URL: which may be called, how, and what their answers say."""
