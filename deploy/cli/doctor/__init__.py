"""What `weft check` looks at: this machine, and the parts of the running mesh. Each module judges one thing, purely."""
