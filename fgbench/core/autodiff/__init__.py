"""Forward mode by dual numbers, cut graphs for pulls, and the refusal of reverse mode."""
