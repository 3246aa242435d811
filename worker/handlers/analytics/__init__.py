"""The sales roll-up."""
