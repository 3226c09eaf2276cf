"""Venues: implementations of `execution.venue.OrderVenue`."""
