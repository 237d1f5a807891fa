"""Studies that compare no methods: table 1 of the paper, fused losses."""
