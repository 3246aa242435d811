"""Reports: questions to the archive of all events, answered by a process of their own, part by part."""
