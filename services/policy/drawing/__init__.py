"""From prompts to responses: rendering, and which version draws which response. No engine is implemented here."""
