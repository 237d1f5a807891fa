"""From a case to its record: single runs, studies and sweeps."""
