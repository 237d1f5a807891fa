"""One page that sets records beside the tables and figures of the founding paper."""
