"""One module a group of `inpo`'s commands: options in, one call, something printed. The work is done elsewhere."""
