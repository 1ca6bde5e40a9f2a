"""`inpo demo`: the tiny model, its two runs, and the report of what was measured."""
