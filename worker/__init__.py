"""Who reacts: the relay from the outboxes to the broker, and the workers that turn each event into one effect."""
