"""Who answers comparisons: a module or folder a kind of judge, loaded by name, each with `build(spec, device)`."""
