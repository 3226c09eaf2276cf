"""What that means: levels and trades to feature frames."""
