"""What must happen: decisions, as tables and pure functions. The runtime carries them out."""
