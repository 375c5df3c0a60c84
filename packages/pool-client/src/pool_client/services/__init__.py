"""What running tasks may ask of the client."""
