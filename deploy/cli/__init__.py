"""The command `weft`: what people and machines type."""
