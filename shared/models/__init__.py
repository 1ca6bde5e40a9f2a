"""Weight directories as live models, for whoever has torch. Nothing is trained or generated here."""
