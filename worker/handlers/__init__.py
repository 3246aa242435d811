"""What events lead to, one package for each kind of worker; none knows another, none knows the broker."""
