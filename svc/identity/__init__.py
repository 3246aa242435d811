"""The identity service: users, their passwords, their sessions and the keys that sign their tokens."""
