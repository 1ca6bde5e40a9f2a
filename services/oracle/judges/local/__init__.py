"""Judges that are Hugging Face models in this process. The only room of the oracle with torch in it."""
