"""E-mail to customers: who they are, what was sent, and the sending."""
