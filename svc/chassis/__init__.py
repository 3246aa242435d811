"""What every service process is made of: server, client, database, cache, events, identity, telemetry.

No business word lives here. Services stand on it, workers share its telemetry, database and process shell,
and it stands on `lb` (registration, channels) and the contracts' policies.
"""
