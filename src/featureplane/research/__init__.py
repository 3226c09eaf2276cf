"""The same features, over history: tables and files."""
