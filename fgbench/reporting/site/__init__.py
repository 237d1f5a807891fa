"""The parts of the report: what its pages show, and how they come to lie in a folder."""
