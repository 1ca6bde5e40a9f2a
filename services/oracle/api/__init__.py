"""What others may ask of the oracle over HTTP: `/v1/judgments`, and the application that all routes live in."""
