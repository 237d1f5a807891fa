"""Data sets, one file each. Pixels stay uint8 and are normalised batch by batch."""
