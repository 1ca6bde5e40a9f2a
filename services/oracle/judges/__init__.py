"""One module a kind of judge, loaded by name; each has `build(spec, device) -> Judge`."""
