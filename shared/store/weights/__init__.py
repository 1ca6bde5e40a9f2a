"""Weight directories: begun, finished by a manifest of digests, verified before anybody loads them."""
