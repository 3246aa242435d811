"""The analytics service: answers from the sales roll-up that its worker keeps up to date with the events."""
