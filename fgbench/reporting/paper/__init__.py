"""Records beside the tables of the founding paper."""
