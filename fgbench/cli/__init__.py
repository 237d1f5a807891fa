"""The command line: commands, tables, notes and progress."""
