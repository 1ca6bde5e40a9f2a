"""Bodies of the REST APIs that are not stored as they are."""
