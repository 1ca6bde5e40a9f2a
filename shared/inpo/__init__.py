"""The mathematics of Nash policy optimisation: no I/O, no clock, no logging."""
