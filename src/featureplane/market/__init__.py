"""What the venue said: bytes to events."""
