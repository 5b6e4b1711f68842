"""The parts of the suite for stores; `posthouse.testing.conformance.store` puts them together."""
