"""The archive: every event once, in Parquet files by day and type."""
