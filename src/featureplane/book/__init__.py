"""What the market looks like now: events to levels."""
