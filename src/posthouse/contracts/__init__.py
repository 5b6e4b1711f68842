"""What a backend promises: types, and nothing that runs."""
