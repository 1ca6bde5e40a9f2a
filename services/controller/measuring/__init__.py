"""What is measured of an iteration or a weight version, from stored artifacts alone. Nothing is decided here."""
