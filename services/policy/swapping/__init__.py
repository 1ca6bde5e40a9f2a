"""One weight version at a time: the gate in front of the engine, and the canary that a version must pass."""
