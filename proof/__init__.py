"""`make prove`: every algorithm against games whose answer is known, exactly and with a language model."""
