"""The audit log: every event once, in a chain of hashes."""
