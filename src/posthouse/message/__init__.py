"""What travels: the message, its frame, its names, and the schema of its data."""
