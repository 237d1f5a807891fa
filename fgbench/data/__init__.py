"""Data sets: one file each, all of them uint8 pixels that are normalised batch by batch."""
