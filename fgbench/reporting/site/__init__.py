"""The static site that `fgbench report` writes: its pages, tables, figures and files."""
