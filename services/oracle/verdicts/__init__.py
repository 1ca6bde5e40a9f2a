"""What judges have answered: kept by content, read back, turned into the oracle's answer. Nobody is asked here."""
