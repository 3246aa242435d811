"""What several filters with a script are made of: checks and counters in Lua, each with what it reads on a route."""
