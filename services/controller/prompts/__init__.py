"""Prompts as people have them become prompts of a run, or a reason why not."""
