"""What the networks are shown."""
